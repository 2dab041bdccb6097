// What languages hold, against independent judges: JavaScript's regular expressions and numbers, JSON.stringify, ajv.
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { loadTokenizer } from '../../../src/data/tokenizer.ts';
import {
  ConstraintFailure,
  createConstraint,
  createTokenGrammar,
} from '../../../src/serving/constraint/constraint.ts';
import { formats } from '../../../src/serving/constraint/formats.ts';
import { jsonLanguage } from '../../../src/serving/constraint/json.ts';
import { createLanguage, DEAD } from '../../../src/serving/constraint/language.ts';
import { schemaLanguage } from '../../../src/serving/constraint/schema.ts';
import { createVocabulary, readToken } from '../../../src/serving/constraint/vocabulary.ts';

const ajv = new Ajv2020({ strict: false });
addFormats.default(ajv);

/** Whether a text is in the language of a schema. */
function reader(schema: unknown): (text: string) => boolean {
  const language = createLanguage();
  const automaton = language.automaton(schemaLanguage(jsonLanguage(language), schema, true));
  return text => automaton.isFinal(readToken(Buffer.from(text), automaton, automaton.start));
}

describe('any JSON', () => {
  const holds = reader({});

  test('all that JSON.stringify writes, close together or indented', () => {
    // numbers of more digits, and smaller ones, are written otherwise
    const plain = (each: unknown): unknown =>
      typeof each === 'number' ? Math.round(each % 1e9) / 100 : each;
    const short = (value: unknown): unknown => JSON.parse(JSON.stringify(value), (_, each) => plain(each));
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), fc.constantFrom(undefined, 2, '\t'), (value, indent) => {
        const text = JSON.stringify(short(value), null, indent);
        expect(holds(text), text).toBe(true);
      }),
    );
  });

  test('nothing that JSON.parse refuses', () => {
    const almost = fc.tuple(
      fc.jsonValue({ maxDepth: 2 }),
      fc.nat(40),
      fc.constantFrom('', '"', ',', '}', '\\', '\n', '0', 'e', '-', '.', '\u0001'),
    );
    fc.assert(
      fc.property(almost, ([value, at, piece]) => {
        const whole = JSON.stringify(value);
        const text = whole.slice(0, at) + piece + whole.slice(at + 1);
        if (holds(text)) JSON.parse(text);
      }),
      { numRuns: 1000 },
    );
  });

  test('escapes of surrogates in pairs only', () => {
    expect(holds('"\\ud83d\\ude00"')).toBe(true);
    expect(holds('"\\ud83d"')).toBe(false);
    expect(holds('"\\ude00"')).toBe(false);
    expect(holds('"\\u00e9"')).toBe(true);
  });
});

describe('pattern', () => {
  const patterns = [
    'a',
    '^a',
    'a$',
    '^a|b$',
    '^(ab|c)*d?$',
    '[^ab]',
    '^[a-c-]+$',
    '\\d\\D\\w\\W\\s\\S',
    'a{2}',
    'a{2,}',
    '^a{1,3}?b',
    '^(?:a|b){2}$',
    '(?<x>a)b',
    '\\.',
    '\\u0061',
    '\\x61$',
    '\\u{61}',
    '.b',
    '[.]',
    '[\\]\\\\]',
    '\\/',
    '^$',
    '"',
    '[\\b]',
    '\\t',
    'é',
    '😀+',
  ];
  const texts = fc
    .array(
      fc.constantFrom(
        'a',
        'b',
        'c',
        'd',
        '.',
        '-',
        ' ',
        '\n',
        '\t',
        '\b',
        '"',
        '\\',
        '/',
        ']',
        '1',
        'é',
        '😀',
        '_',
      ),
      { maxLength: 6 },
    )
    .map(parts => parts.join(''));

  test.each(patterns)('%s: the strings in which JavaScript finds it', pattern => {
    const holds = reader({ type: 'string', pattern });
    const expression = new RegExp(pattern, 'u');
    fc.assert(
      fc.property(texts, text => {
        expect(holds(JSON.stringify(text)), JSON.stringify(text)).toBe(expression.test(text));
      }),
      { numRuns: 300 },
    );
  });

  test('with a length', () => {
    const holds = reader({ type: 'string', pattern: '^a', minLength: 2, maxLength: 3 });
    expect(['"a"', '"ab"', '"a😀c"', '"abcd"', '"bab"'].map(holds)).toEqual([
      false,
      true,
      true,
      false,
      false,
    ]);
  });
});

describe('numbers', () => {
  const cents = fc.integer({ min: -1500, max: 1500 }).map(value => value / 100);
  const bounds = fc.tuple(cents, cents, fc.boolean(), fc.boolean()).map(([x, y, openLow, openHigh]) => ({
    [openLow ? 'exclusiveMinimum' : 'minimum']: Math.min(x, y),
    [openHigh ? 'exclusiveMaximum' : 'maximum']: Math.max(x, y),
  }));

  test.each(['number', 'integer'])('%s between bounds: those that ajv takes', type => {
    fc.assert(
      fc.property(
        bounds,
        fc.array(fc.oneof(cents, cents.map(Math.round)), { minLength: 30, maxLength: 30 }),
        (between, values) => {
          const schema = { type, ...between };
          const [holds, valid] = [reader(schema), ajv.compile(schema)];
          for (const value of values.concat(Object.values(between)))
            expect(holds(String(value)), `${value} in ${JSON.stringify(schema)}`).toBe(valid(value));
        },
      ),
      { numRuns: 60 },
    );
  });

  test('no leading zeros, no bare points', () => {
    const holds = reader({ type: 'number', minimum: 0, maximum: 20 });
    expect(['01', '1.', '.5', '-1', '1.50', '0', '20.0', '20.01'].map(holds)).toEqual([
      false,
      false,
      false,
      false,
      true,
      true,
      true,
      false,
    ]);
  });
});

describe('format', () => {
  const samples: Record<string, string[]> = {
    date: ['2024-02-29', '2023-02-28', '1999-12-31', '2023-02-29', '2024-13-01', '2024-04-31', '24-01-01'],
    time: ['10:20:30Z', '23:59:59.123+02:00', '10:20:30', '24:00:00Z', '1:2:3Z'],
    'date-time': ['2024-02-29T10:20:30Z', '2024-01-01T00:00:00.5-08:00', '2024-01-01'],
    duration: ['P1Y2M3D', 'PT1H30M', 'P3W', 'P1DT12H', 'P', 'PT', '1Y', 'P1H'],
    email: ['a@b.co', 'first.last+tag@example.com', 'a@b@c', 'no', '@b.co', '.a@b.co'],
    hostname: ['example.com', 'a-b.example', '-a.com', 'a..b', 'a_b'],
    ipv4: ['1.2.3.4', '255.255.255.255', '256.1.1.1', '1.2.3', '01.2.3.4'],
    ipv6: [
      '::',
      '::1',
      '2001:db8::ff00:42:8329',
      '1:2:3:4:5:6:7:8',
      '1:2:3:4:5:6:7',
      '1::2::3',
      ':1',
      '12345::',
    ],
    uuid: ['123e4567-e89b-12d3-a456-426614174000', '123e4567e89b12d3a456426614174000', 'x'],
  };

  test('every one has samples', () => {
    expect(Object.keys(samples).sort()).toEqual(Object.keys(formats).sort());
  });

  test.each(Object.keys(samples))('%s: as ajv judges them', format => {
    const schema = { type: 'string', format };
    const [holds, valid] = [reader(schema), ajv.compile(schema)];
    for (const text of samples[format]!) expect(holds(JSON.stringify(text)), text).toBe(valid(text));
  });
});

test.each<object>([
  { type: 'array', minItems: 2, maxItems: 1 },
  { type: 'array', minItems: 1, maxItems: 0 },
  { type: 'string', minLength: 2, maxLength: 1 },
  { type: 'number', exclusiveMinimum: 1, maximum: 1 },
  { type: 'integer', exclusiveMinimum: 1, exclusiveMaximum: 2 },
  { type: 'string', pattern: '^a', maxLength: 0 },
  { type: 'string', enum: [1] },
])('%j has no value', schema => {
  const language = createLanguage();
  expect(language.automaton(schemaLanguage(jsonLanguage(language), schema, true)).start).toBe(DEAD);
});

describe('objects', () => {
  test('others than those named, and none of those named by another spelling', () => {
    const holds = reader({
      type: 'object',
      properties: { a: { type: 'null' } },
      additionalProperties: { type: 'integer' },
    });
    expect(
      ['{}', '{"a":null}', '{"a":null,"b":1}', '{"b":1}', '{"a":1}', '{"\\u0061":1}', '{"b":1,"a":null}'].map(
        holds,
      ),
    ).toEqual([true, true, true, true, false, false, false]);
  });

  test('a schema that refers to itself without an end has no value', () => {
    const language = createLanguage();
    const endless = {
      type: 'object',
      properties: { next: { $ref: '#' } },
      required: ['next'],
      additionalProperties: false,
    };
    expect(language.automaton(schemaLanguage(jsonLanguage(language), endless, true)).start).toBe(DEAD);
  });

  test('a branch without an end is not entered', () => {
    const endless = {
      $defs: {
        e: {
          type: 'object',
          properties: { next: { $ref: '#/$defs/e' } },
          required: ['next'],
          additionalProperties: false,
        },
      },
    };
    const language = createLanguage();
    const schema = { ...endless, anyOf: [{ $ref: '#/$defs/e' }, { type: 'boolean' }] };
    const automaton = language.automaton(schemaLanguage(jsonLanguage(language), schema, true));
    expect(automaton.step(automaton.start, '{'.charCodeAt(0))).toBe(DEAD);
    expect(automaton.step(automaton.start, 't'.charCodeAt(0))).not.toBe(DEAD);
  });
});

describe('tokens', () => {
  test('exactly those whose text can be read', async () => {
    const tokenizer = await loadTokenizer(`${import.meta.dirname}/../../data/fixtures/metaspace`);
    const vocabulary = createVocabulary(tokenizer, new Map([[tokenizer.eosId!, 300]]));
    const language = createLanguage();
    const schema = {
      type: 'object',
      properties: { name: { enum: ['weather', 'city'] } },
      required: ['name'],
      additionalProperties: false,
    };
    const mark = language.symbols([[300, 300]]);
    const automaton = language.automaton(
      language.sequence(mark, schemaLanguage(jsonLanguage(language), schema, true), mark),
    );
    const grammar = createTokenGrammar(vocabulary, automaton);
    const states = [
      [300],
      [300, ...Buffer.from('{"na')],
      [300, ...Buffer.from('{"name": "')],
      [300, ...Buffer.from('{"name": "city"}')],
    ].map(text => readToken(text, automaton, automaton.start));
    for (const state of states)
      for (let id = 0; id < tokenizer.vocabSize; id++) {
        const text = grammar.textOf(id);
        const reads = text.length > 0 && readToken(text, automaton, state) !== DEAD;
        expect(((grammar.allowed(state)[id >>> 5]! >>> (id & 31)) & 1) === 1, `token ${id}`).toBe(reads);
      }
  });

  test('a vocabulary without the characters that are asked for says so', () => {
    const texts = ['"', 'a', 'b'];
    const vocabulary = createVocabulary(
      { vocabSize: 4, tokenBytes: id => Buffer.from(texts[id] ?? ''), isSpecial: id => id === 3 },
      new Map(),
    );
    const language = createLanguage();
    const automaton = language.automaton(schemaLanguage(jsonLanguage(language), { const: 'aé' }, true));
    const constraint = createConstraint(createTokenGrammar(vocabulary, automaton), [3]);
    for (const token of [0, 1]) {
      constraint.restrict(new Float32Array(4));
      constraint.accept(token);
    }
    expect(() => constraint.restrict(new Float32Array(4))).toThrow(ConstraintFailure);
  });
});
