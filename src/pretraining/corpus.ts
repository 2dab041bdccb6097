// Generates the text that anneal-tiny is pre-trained on: document `index` of a seed, plain text or a conversation.
// Pure: no files, no clock.
import {
  briefExchanges,
  briefSystems,
  exchanges,
  passages,
  storyRequests,
  systems,
} from './conversations.ts';
import { descriptions, instructions, statements } from './facts.ts';
import { lists } from './lexicon.ts';
import { createRandom, type Random } from './random.ts';
import { dialogues, letters, sentences, stories } from './stories.ts';
import { expand, polish, type Scope } from './template.ts';
import { topics } from './topics.ts';

export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

export type Document =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'chat'; readonly messages: readonly ChatMessage[] };

/** Kinds of documents, with their shares of the whole. */
const mixture = [
  { share: 22, make: random => text(story(random)) },
  { share: 8, make: random => text(series(sentences, 3, 9, random)) },
  { share: 7, make: random => text(series(statements, 2, 7, random)) },
  { share: 7, make: random => text(expand(random.pick(descriptions), new Map(), random)) },
  { share: 3, make: random => text(expand(random.pick(instructions), new Map(), random)) },
  { share: 5, make: random => text(letter(random)) },
  { share: 8, make: random => text(dialogue(random)) },
  { share: 12, make: random => text(talk(random)) },
  { share: 14, make: random => chat(greetingsAndQuestions(random)) },
  { share: 8, make: random => chat(briefQuestions(random)) },
  { share: 15, make: random => chat(reading(random)) },
  { share: 3, make: random => chat(askedStory(random)) },
  { share: 9, make: random => chat(copying(random)) },
] satisfies { share: number; make: (random: Random) => Document }[];

const shares = mixture.flatMap(({ share, make }) => Array.from({ length: share }, () => make));

/** The document with this index; it depends only on seed and index. */
export function createDocument(seed: number, index: number): Document {
  const random = createRandom(seed, index);
  return random.pick(shares)(random);
}

const text = (content: string): Document => ({ kind: 'text', text: content });
const chat = (messages: ChatMessage[]): Document => ({ kind: 'chat', messages });

function story(random: Random): string {
  return parts(random.pick(stories), random.chance(0.2) ? '\n' : ' ', random);
}

function letter(random: Random): string {
  return parts(random.pick(letters), random.chance(0.4) ? '\n' : ' ', random);
}

/** One choice of every part, with one meaning of every name. Choices of a part are separated by `|` outside of brackets. */
function parts(all: readonly string[], between: string, random: Random): string {
  const scope: Scope = new Map();
  const written = all.map(part => expand(random.pick(alternatives(part)), scope, random));
  return polish(written.filter(line => line !== '').join(between));
}

/** `a|[b|c]` -> `a`, `[b|c]`. */
function alternatives(part: string): string[] {
  return part.split(/\|(?![^[\]]*\])/);
}

function series(templates: readonly string[], least: number, most: number, random: Random): string {
  const count = least + random.below(most - least + 1);
  const made = Array.from({ length: count }, () => expand(random.pick(templates), new Map(), random));
  return polish(made.join(' '));
}

/** Some remarks on one topic. */
function talk(random: Random): string {
  const remarks = random.shuffle(random.pick(topics)).slice(0, 2 + random.below(4));
  return polish(remarks.map(remark => expand(remark, new Map(), random)).join(' '));
}

function dialogue(random: Random): string {
  const scope: Scope = new Map();
  const lines = random.pick(dialogues).map(line => expand(line, scope, random));
  return lines.join('\n').replace(/: ([a-z])/g, (_, letter: string) => `: ${letter.toUpperCase()}`);
}

/** One to three exchanges that do not depend on each other, sometimes with a system message before them. */
function greetingsAndQuestions(random: Random): ChatMessage[] {
  const count = random.pick([1, 1, 1, 2, 2, 3]);
  const turns = Array.from({ length: count }, () => exchange(random.pick(exchanges), random)).flat();
  return withSystem(systems, 0.5, turns, random);
}

function briefQuestions(random: Random): ChatMessage[] {
  const count = random.pick([1, 1, 2, 3]);
  const lines = Array.from({ length: count }, () => random.pick(briefExchanges));
  const turns = lines.flatMap(([question, answer]) => exchange([question!, `=${answer}`], random));
  return withSystem(briefSystems, 1, turns, random);
}

/** A short text and questions about it, answered in sentences or in single words. */
function reading(random: Random): ChatMessage[] {
  const chosen = random.shuffle(passages).slice(0, 1 + random.below(4));
  const parts = chosen.map(passage => ({ passage, scope: new Map() as Scope }));
  const body = parts.map(({ passage, scope }) => expand(passage.text, scope, random)).join(' ');
  const brief = random.chance(0.4);
  const asked = random.shuffle(parts).slice(0, 1 + random.below(2));
  const turns = asked.flatMap(({ passage, scope }, i) => {
    const [question, sentence, short] = random.pick(passage.asks);
    const before = i === 0 ? `${body}${random.pick([' ', '\n'])}` : '';
    const answer = brief ? bare(short, scope, random) : expand(sentence, scope, random);
    return turn(before + expand(question, scope, random), answer);
  });
  return withSystem(brief ? briefSystems : systems, brief ? 1 : 0.5, turns, random);
}

function askedStory(random: Random): ChatMessage[] {
  const request = polish(random.pick(storyRequests));
  return withSystem(systems, 0.4, turn(request, story(random)), random);
}

/** Words, known and made up, numbers and codes, to be repeated: what a user writes need not be in the lexicon. */
function copying(random: Random): ChatMessage[] {
  const word = () => random.pick([knownWord, knownWord, madeUpWord, number, code])(random);
  const copied = Array.from({ length: 1 + random.below(5) }, word).join(random.pick([' ', ' ', ', ']));
  const request = random.pick(['Repeat:', 'Say:', 'Copy this:', 'Write:', 'Repeat after me:']);
  return withSystem(briefSystems, 0.4, turn(`${request} ${copied}`, copied), random);
}

function knownWord(random: Random): string {
  return random.pick([...lists.things, ...lists.animals, ...lists.foods, ...lists.people]).word;
}

function madeUpWord(random: Random): string {
  const syllable = () =>
    random.pick(['', ...'bcdfghklmnprstvwz']) + random.pick([...'aeiouy']) + random.pick(['', ...'lmnrstxk']);
  const made = Array.from({ length: 1 + random.below(4) }, syllable).join('');
  return random.chance(0.3) ? made[0]!.toUpperCase() + made.slice(1) : made;
}

function number(random: Random): string {
  return String(random.below(10 ** (1 + random.below(5))));
}

function code(random: Random): string {
  const sign = () => random.pick([...'ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/#@+']);
  return Array.from({ length: 2 + random.below(6) }, sign).join('');
}

function exchange(lines: readonly string[], random: Random): ChatMessage[] {
  const scope: Scope = new Map();
  return lines.map((line, i) => ({
    role: i % 2 === 0 ? 'user' : 'assistant',
    content: line.startsWith('=') ? bare(line.slice(1), scope, random) : expand(line, scope, random),
  }));
}

/** A word or two as they are, without the capital of a sentence. */
function bare(template: string, scope: Scope, random: Random): string {
  const sentence = expand(`x ${template}`, scope, random);
  return sentence.slice('X '.length);
}

const turn = (user: string, assistant: string): ChatMessage[] => [
  { role: 'user', content: user },
  { role: 'assistant', content: assistant },
];

function withSystem(
  choices: readonly string[],
  probability: number,
  turns: ChatMessage[],
  random: Random,
): ChatMessage[] {
  if (!random.chance(probability)) return turns;
  return [{ role: 'system', content: random.pick(choices) }, ...turns];
}
