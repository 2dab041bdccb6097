// Splits rendered text into control tokens and the text between them, and encodes it with the token index of each cut. Independent of
// templates; adds no tokens.
import { alternation } from './alternation.ts';
import type { EncodePlain } from './plain-text.ts';

export interface EncodedParts {
  ids: number[];
  /** Index of the first token after each cut. A cut inside a control token is moved before it. */
  cuts: number[];
}

/** A control token, or the text between two of them. Offsets are into the rendered text. */
export interface Section {
  start: number;
  end: number;
  id: number | null;
  text: string;
}

export interface AddedToken {
  id: number;
  content: string;
  lstrip: boolean;
  rstrip: boolean;
}

/** Splits at added tokens, longest first. */
export function sectionSplitter(added: readonly AddedToken[]): (text: string) => Section[] {
  const byContent = new Map(added.map(token => [token.content, token]));
  const expression = alternation([...byContent.keys()]);
  return text => {
    const sections: Section[] = [];
    let position = 0;
    const addText = (end: number) => {
      if (end > position) sections.push({ start: position, end, id: null, text: text.slice(position, end) });
    };
    for (const match of expression === null ? [] : text.matchAll(expression)) {
      addText(match.index);
      position = match.index + match[0].length;
      sections.push({ start: match.index, end: position, id: byContent.get(match[0])!.id, text: match[0] });
    }
    addText(text.length);
    return trimAround(sections, byContent);
  };
}

/** Added tokens may absorb adjacent white space (`lstrip`, `rstrip`). */
function trimAround(sections: Section[], byContent: ReadonlyMap<string, AddedToken>): Section[] {
  sections.forEach((section, i) => {
    if (section.id === null) return;
    const token = byContent.get(section.text)!;
    const [before, after] = [sections[i - 1], sections[i + 1]];
    if (token.lstrip && before?.id === null) before.text = before.text.trimEnd();
    if (token.rstrip && after?.id === null) {
      const trimmed = after.text.trimStart();
      after.start += after.text.length - trimmed.length;
      after.text = trimmed;
    }
  });
  return sections;
}

/** Encodes the text of a section; `cuts` has the token index of each offset in it. */
export type CutSection = (text: string, offsets: readonly number[], section: number) => EncodedParts;

/** `offsets`: ascending, into the text that was split. */
export function encodeSections(
  sections: readonly Section[],
  offsets: readonly number[],
  cutSection: CutSection,
): EncodedParts {
  const ids: number[] = [];
  const cuts: number[] = [];
  let next = 0;
  sections.forEach((section, index) => {
    const inside: number[] = [];
    for (; next < offsets.length && offsets[next]! < section.end; next++) {
      inside.push(Math.max(0, offsets[next]! - section.start));
    }
    if (section.id !== null) {
      for (const _ of inside) cuts.push(ids.length);
      ids.push(section.id);
      return;
    }
    const part = cutSection(section.text, inside, index);
    for (const cut of part.cuts) cuts.push(ids.length + cut);
    for (const id of part.ids) ids.push(id);
  });
  for (; next < offsets.length; next++) cuts.push(ids.length);
  return { ids, cuts };
}

/**
 * Encodes a text with cuts. A cut is clean if the text before it, encoded alone, is a prefix of the tokens of the whole. If a token
 * would span the cut, both sides are encoded separately, as at inference, where the text before the cut is the prompt and the rest is
 * generated.
 */
export function sectionCutter(encode: EncodePlain, addsSpace: boolean): CutSection {
  /** Continues a section: omits the space that some vocabularies insert before its first word. */
  const encodeContinuation: EncodePlain = (text, section) => {
    if (!addsSpace) return encode(text, section);
    const anchor = encode('\n', section);
    const anchored = encode(`\n${text}`, section);
    return startsWith(anchored, anchor) ? anchored.slice(anchor.length) : encode(text, section);
  };
  return (text, offsets, section) => {
    let ids = encode(text, section);
    const cuts: number[] = [];
    let from = 0; // Position of the last unclean cut, in characters and in tokens.
    let fromToken = 0;
    const encodeFrom = (end: number) =>
      from === 0 ? encode(text.slice(0, end), section) : encodeContinuation(text.slice(from, end), section);
    for (const offset of offsets) {
      if (offset === from) {
        cuts.push(fromToken);
        continue;
      }
      const before = encodeFrom(offset);
      const cut = fromToken + before.length;
      if (!startsWith(ids, before, fromToken)) {
        ids = [...ids.slice(0, fromToken), ...before, ...encodeContinuation(text.slice(offset), section)];
        from = offset;
        fromToken = cut;
      }
      cuts.push(cut);
    }
    return { ids, cuts };
  };
}

function startsWith(ids: readonly number[], start: readonly number[], at = 0): boolean {
  return start.every((id, i) => ids[at + i] === id);
}
