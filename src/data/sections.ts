// A rendered text as control tokens and the text between them, and its tokens with the places where it is cut.
// It knows no template and adds nothing.
import { alternation } from './alternation.ts';
import type { EncodePlain } from './plain-text.ts';

export interface EncodedParts {
  ids: number[];
  /** For each cut, the index of its first token. A cut inside a control token comes before it. */
  cuts: number[];
}

/** A control token, or a stretch of text between two of them. Offsets are those of the rendered text. */
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

/** Splits at added tokens, the longest first. */
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

/** Added tokens may swallow the white space beside them (`lstrip`, `rstrip`). */
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

/** Text of a section -> its tokens, with the token index of each offset inside it. */
export type CutSection = (text: string, offsets: readonly number[], section: number) => EncodedParts;

/** `offsets`: ascending, in the text that the sections were split from. */
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
 * Tokens of a text and where its cuts fall. A cut is clean when the text before it, tokenized alone, gives the first
 * tokens of the whole. Where a token would span the cut, both sides are tokenized apart, as they are when the text
 * before the cut is a prompt and the rest is generated.
 */
export function sectionCutter(encode: EncodePlain, addsSpace: boolean): CutSection {
  /** Of a text that goes on inside a section: without the space that some vocabularies put before a section's first word. */
  const encodeContinuation: EncodePlain = (text, section) => {
    if (!addsSpace) return encode(text, section);
    const anchor = encode('\n', section);
    const anchored = encode(`\n${text}`, section);
    return startsWith(anchored, anchor) ? anchored.slice(anchor.length) : encode(text, section);
  };
  return (text, offsets, section) => {
    let ids = encode(text, section);
    const cuts: number[] = [];
    let from = 0; // Where the last unclean cut was made, in characters and in tokens.
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
