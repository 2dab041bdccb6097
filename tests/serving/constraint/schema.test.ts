// Decoding under a schema: whatever the logits, what is written is JSON that an independent validator (ajv) accepts.
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { loadTokenizer } from '../../../src/data/tokenizer.ts';
import { createConstraint, createTokenGrammar } from '../../../src/serving/constraint/constraint.ts';
import { formats } from '../../../src/serving/constraint/formats.ts';
import { jsonLanguage } from '../../../src/serving/constraint/json.ts';
import { type Automaton, createLanguage, DEAD } from '../../../src/serving/constraint/language.ts';
import { SchemaError, schemaLanguage } from '../../../src/serving/constraint/schema.ts';
import { createVocabulary, readToken } from '../../../src/serving/constraint/vocabulary.ts';

const ajv = new Ajv2020({ strict: false, allErrors: true });
addFormats.default(ajv);
const tokenizer = await loadTokenizer(`${import.meta.dirname}/../../data/fixtures/chatml`);
const vocabulary = createVocabulary(tokenizer, new Map());
const END = tokenizer.endOfTurnId!;

function grammarOf(schema: unknown, strict = true) {
  const language = createLanguage();
  const root = schemaLanguage(jsonLanguage(language), schema, strict);
  return createTokenGrammar(vocabulary, language.automaton(root));
}

/** Writes under the schema: up to `patience` tokens with random logits, then a short way to an end. */
function write(schema: unknown, random: () => number, patience = 60): string {
  const grammar = grammarOf(schema);
  const constraint = createConstraint(grammar, [END]);
  const written: number[] = [];
  for (let step = 0; step < patience; step++) {
    const logits = Float32Array.from({ length: tokenizer.vocabSize }, random);
    constraint.restrict(logits);
    const token = logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
    if (token === END) return Buffer.from(written).toString();
    written.push(...tokenizer.tokenBytes(token));
    if (constraint.accept(token)) return Buffer.from(written).toString();
  }
  close(grammar.automaton, written);
  return Buffer.from(written).toString();
}

/** Closes what is open, one string, array or object after the other. */
function close(automaton: Automaton, written: number[]): void {
  for (;;) {
    const state = readToken(written, automaton, automaton.start);
    if (automaton.isFinal(state)) return;
    const text = Buffer.from(written).toString('latin1');
    const inString = text.replaceAll(/"([^"\\]|\\.)*"/g, '').includes('"');
    const closers = [...Buffer.from(inString ? '"' : '}]')];
    written.push(...shortestWay(automaton, state, closers));
  }
}

/** Bytes to an end, or to one of `closers`; escapes, arrays and objects are begun only where nothing else leads on. */
function shortestWay(automaton: Automaton, from: number, closers: number[]): number[] {
  for (const avoided of ['\\{[', '{[', '']) {
    const texts = new Map<number, number[]>([[from, []]]);
    for (const [state, text] of texts) {
      if (automaton.isFinal(state)) return text;
      const closer = closers.find(byte => automaton.step(state, byte) !== DEAD);
      if (closer !== undefined) return [...text, closer];
      // not by new lines and indentation, of which there are many
      for (let byte = 32; byte < 256; byte++) {
        const next = avoided.includes(String.fromCharCode(byte)) ? DEAD : automaton.step(state, byte);
        if (next !== DEAD && !texts.has(next)) texts.set(next, [...text, byte]);
      }
    }
  }
  throw new Error('a state without an end');
}

function seeded(seed: number): () => number {
  let state = (seed % 2147483646) + 1;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

function expectValid(schema: object, seed: number): void {
  const text = write(schema, seeded(seed));
  const value = JSON.parse(text);
  const validate = ajv.compile(schema);
  expect(validate(value), `${JSON.stringify(schema)} wrote ${text}: ${JSON.stringify(validate.errors)}`).toBe(
    true,
  );
}

// ---- random schemas

const words = fc.constantFrom('a', 'name', 'größe', 'a b', 'x"y', 'emoji 😀', '\\n', '1', '__proto_');
const number = fc.oneof(
  fc.integer({ min: -2000, max: 2000 }),
  fc.integer({ min: -9999, max: 9999 }).map(n => n / 100),
);
/** ajv asks objects for these methods. */
const isComparable = (value: unknown): boolean => !/"(valueOf|toString)"/.test(JSON.stringify(value));
const leaf = fc.oneof(
  fc.constantFrom<object>(
    { type: 'string' },
    { type: 'number' },
    { type: 'integer' },
    { type: 'boolean' },
    { type: 'null' },
  ),
  fc.record({
    enum: fc.array(fc.oneof(words, number, fc.boolean(), fc.constant(null)), { minLength: 1, maxLength: 4 }),
  }),
  fc.record({ const: fc.jsonValue({ maxDepth: 2 }).filter(isComparable) }),
  fc.constantFrom(...Object.keys(formats)).map(format => ({ type: 'string', format })),
  fc.tuple(fc.nat(5), fc.nat(5)).map(([a, b]) => ({ type: 'string', minLength: a, maxLength: a + b })),
  fc
    .constantFrom(
      '^[a-z]{2,4}$',
      '^\\d{3}-\\d{4}$',
      '^(foo|ba[rz])+$',
      'é$',
      '^[^"\\\\]*$',
      '^.{1,3}$',
      '^\\w+@\\S+$',
      '^$|^x',
      '"',
    )
    .map(pattern => ({ type: 'string', pattern })),
  fc
    .tuple(number, number, fc.boolean(), fc.boolean(), fc.constantFrom('number', 'integer'))
    .map(([x, y, openLow, openHigh, type]) => {
      const [low, high] = [Math.min(x, y), Math.round((Math.max(x, y) + 2) * 100) / 100];
      return {
        type,
        [openLow ? 'exclusiveMinimum' : 'minimum']: low,
        [openHigh ? 'exclusiveMaximum' : 'maximum']: high,
      };
    }),
  fc
    .tuple(
      number,
      fc.constantFrom('minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'),
      fc.constantFrom('number', 'integer'),
    )
    .map(([bound, keyword, type]) => ({ type, [keyword]: bound })),
);
const schemas = fc.letrec<{ schema: object }>(tie => ({
  schema: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    leaf,
    fc.record({ anyOf: fc.array(tie('schema'), { minLength: 1, maxLength: 3 }) }),
    fc
      .tuple(tie('schema'), fc.nat(2), fc.nat(2))
      .map(([items, a, b]) => ({ type: 'array', items, minItems: a, maxItems: a + b })),
    fc.record({ type: fc.constant('array'), items: tie('schema') }),
    fc
      .tuple(
        fc.dictionary(words, tie('schema'), { maxKeys: 4 }),
        fc.constantFrom<unknown>(false, undefined, true, { type: 'integer' }),
        fc.nat(),
      )
      .map(([properties, additionalProperties, bits]) => ({
        type: 'object',
        properties,
        required: Object.keys(properties).filter((_, i) => (bits >> i) & 1),
        ...(additionalProperties === undefined ? {} : { additionalProperties }),
      })),
  ),
})).schema;

describe('what is written is valid', () => {
  test('random schemas, random logits', () => {
    fc.assert(fc.property(schemas, fc.nat(), expectValid), { numRuns: 200 });
  }, 120_000);

  test('schemas that refer to themselves', () => {
    const tree = {
      $defs: {
        node: {
          type: 'object',
          properties: {
            value: { type: 'integer' },
            next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] },
            all: { type: 'array', items: { $ref: '#' } },
          },
          required: ['value', 'next', 'all'],
          additionalProperties: false,
        },
      },
      type: 'object',
      properties: { root: { $ref: '#/$defs/node' } },
      required: ['root'],
      additionalProperties: false,
    };
    for (let seed = 1; seed < 20; seed++) expectValid(tree, seed);
  });

  test('any JSON at all', () => {
    for (let seed = 1; seed < 100; seed++) expectValid({}, seed);
  });
});

describe('refused', () => {
  const refusals: [object, string][] = [
    [{ type: 'object', properties: { a: { type: 'number', multipleOf: 3 } } }, 'properties.a.multipleOf'],
    [{ type: 'array', items: { type: 'string', format: 'color' } }, 'items.format'],
    [{ type: 'array', uniqueItems: true }, 'uniqueItems'],
    [{ anyOf: [{ type: 'string' }, { oneOf: [{ type: 'null' }] }] }, 'anyOf[1].oneOf'],
    [{ $ref: '#/$defs/no' }, '$ref'],
    [{ $defs: { a: { anyOf: [{ $ref: '#/$defs/a' }] } }, $ref: '#/$defs/a' }, '$ref.anyOf[0].$ref'],
    [{ type: 'string', pattern: '(?=a)b' }, 'pattern'],
    [{ type: 'string', pattern: '(' }, 'pattern'],
    [{ type: 'text' }, 'type'],
    [{ type: 'object', properties: {}, required: ['a'], additionalProperties: false }, 'required'],
    [{ type: 'string', maxLength: 1e9 }, 'maxLength'],
  ];
  for (const [schema, path] of refusals)
    test(`${path} of ${JSON.stringify(schema)}`, () => {
      try {
        grammarOf(schema);
      } catch (error) {
        expect(error).toBeInstanceOf(SchemaError);
        expect((error as SchemaError).path).toBe(path);
        return;
      }
      throw new Error('it was not refused');
    });
});
