// Turns a template into English: choices in brackets, words from the lexicon in braces, then articles and capitals.
//   [a|b|]      one of the alternatives (they may be empty and may nest)
//   {colors}    a word of that list, a new one each time
//   {x:tools}   chooses and remembers; {x}, {x.plural} read it again; two names never stand for the same word
//   {x:tools.plural}  chooses, remembers and reads a facet
// It knows no documents: those are tables of templates in stories.ts, facts.ts and conversations.ts.
import { type Entry, type ListName, lists } from './lexicon.ts';
import type { Random } from './random.ts';

/** What the names of one document stand for. */
export type Scope = Map<string, Entry>;

export function expand(template: string, scope: Scope, random: Random): string {
  return polish(fill(choose(template, random), scope, random));
}

/** Resolves `[a|b]` from the inside out. */
function choose(template: string, random: Random): string {
  let text = template;
  for (;;) {
    const next = text.replace(/\[([^[\]]*)\]/g, (_, options: string) => random.pick(options.split('|')));
    if (next === text) return text;
    text = next;
  }
}

function fill(text: string, scope: Scope, random: Random): string {
  return text.replace(
    /\{(\w+)(?::(\w+))?(?:\.(\w+))?\}/g,
    (slot, name: string, list = '', facet = 'word') => {
      const entry = list ? bind(name, list, scope, random) : (scope.get(name) ?? fromList(name, random));
      const value = entry[facet];
      if (value === undefined) throw new Error(`${slot}: "${entry.word}" has no facet "${facet}"`);
      return value;
    },
  );
}

function fromList(name: string, random: Random): Entry {
  const list = lists[name as ListName];
  if (!list) throw new Error(`{${name}} is neither bound nor a list`);
  return random.pick(list);
}

/** Binds `name` to an entry of `list` that no other name has; a name that is bound already keeps its entry. */
function bind(name: string, list: string, scope: Scope, random: Random): Entry {
  const bound = scope.get(name);
  if (bound) return bound;
  const source = lists[list as ListName];
  if (!source) throw new Error(`{${name}:${list}}: there is no such list`);
  const taken = new Set([...scope.values()].map(entry => entry.word));
  const free = source.filter(entry => !taken.has(entry.word));
  const entry = random.pick(free.length > 0 ? free : source);
  scope.set(name, entry);
  return entry;
}

/** Articles before vowels, capitals at the start of sentences, no doubled spaces. */
export function polish(text: string): string {
  return text
    .replace(/ {2,}/g, ' ')
    .replace(/ +([.,!?;:])/g, '$1')
    .replace(/\b([Aa]) (?=[aeioAEIO]|u(?!se|ni)|hour)/g, '$1n ')
    .replace(/(^|[.!?] |\." |, (?=")|\n)("?)([a-z])/g, (_, before: string, quote: string, letter: string) => {
      return before + quote + letter.toUpperCase();
    })
    .replace(/\bi\b(?=[ ,.'!?])/g, 'I')
    .trim();
}
