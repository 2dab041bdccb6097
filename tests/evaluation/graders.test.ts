// Graders one by one: templates, string checks, models that judge, formulas, and what each says when it cannot grade.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ApiError } from '../../src/errors.ts';
import { checkGrader, modelsOf } from '../../src/evaluation/graders/check.ts';
import {
  evaluateFormula,
  FormulaError,
  namesIn,
  parseFormula,
} from '../../src/evaluation/graders/formula.ts';
import { grade } from '../../src/evaluation/graders/grade.ts';
import {
  type ChatAnswer,
  type ChatQuestion,
  type Grader,
  type GraderTools,
  sampleOf,
} from '../../src/evaluation/graders/grader.ts';
import { checkTemplate, renderTemplate, resolvePath } from '../../src/evaluation/graders/template.ts';

const never = new AbortController().signal;
const usage = { prompt_tokens: 7, completion_tokens: 2, total_tokens: 9, cached_tokens: 0 };

/** A judge that says what it is told to, and keeps what it was asked. */
function judgeWho(says: Partial<ChatAnswer> | Error) {
  const asked: ChatQuestion[] = [];
  const tools: GraderTools = {
    embed: null,
    owner: 'tests',
    python: { grade: () => Promise.reject(new Error('no Python here')), close: async () => undefined },
    async ask(question) {
      asked.push(question);
      if (says instanceof Error) throw says;
      return { text: '', toolCalls: [], refusal: null, finishReason: 'stop', usage, ...says };
    },
  };
  return { asked, tools };
}

const { tools } = judgeWho({});
const subject = (text: string, item: unknown = {}) => ({ item, sample: sampleOf(text) });

describe('templates', () => {
  const item = { a: { b: ['x', { 'c d': 2 }] }, text: 'T{{item.a}}', none: null, größe: 'L' };
  test.each([
    ['{{item.text}}', 'T{{item.a}}'],
    ['<{{ item.a.b[0] }}|{{item.a.b[1]["c d"]}}>', '<x|2>'],
    ['{{item.a}}', '{"b":["x",{"c d":2}]}'],
    ['{{item.none}} {{item.größe}}', 'null L'],
    ['{{sample.output_text}}', '{"n": [1, 2]}'],
    ['{{sample.output_json.n[1]}}', '2'],
    ['{{sample.choices[0].message.role}}', 'assistant'],
    ['{ {item.x} } {{', '{ {item.x} } {{'],
  ])('%s', (template, text) => expect(renderTemplate(template, subject('{"n": [1, 2]}', item))).toBe(text));

  test.each([
    ['{{item.missing}}', 'invalid_variable_error'],
    ['{{item.a.length}}', 'invalid_variable_error'],
    ['{{item.constructor}}', 'invalid_variable_error'],
    ['{{item.__proto__}}', 'invalid_variable_error'],
    ['{{sample.output_json.n}}', 'sample_parse_error'],
  ])('%s is not there', (template, kind) => {
    expect(() => renderTemplate(template, subject('no JSON', item))).toThrow(
      expect.objectContaining({ kind }),
    );
  });

  test.each(['{{env.HOME}}', '{{item.a | upper}}', '{{ 1 + 1 }}', '{{}}', '{{item..a}}', '{{items}}'])(
    '%s is refused before it is used',
    template => expect(() => checkTemplate(template, 'grader.input')).toThrow(/Invalid template variable/),
  );

  test('values of more than four million characters are not put together', () => {
    const long = subject('', { a: 'x'.repeat(1_000_000) });
    expect(renderTemplate('{{item.a}}'.repeat(4), long)).toHaveLength(4_000_000);
    expect(() => renderTemplate('{{item.a}}'.repeat(5), long)).toThrow(
      expect.objectContaining({ kind: 'other_error', message: expect.stringContaining('4000000') }),
    );
  });

  test('a path without braces', () => {
    expect(resolvePath('item.a.b[0]', subject('', item))).toBe('x');
    expect(resolvePath('item.nothing', subject('', item))).toBeUndefined();
  });
});

describe('string_check', () => {
  test.each([
    ['eq', 'Yes', 'Yes', 1],
    ['eq', 'Yes', 'yes', 0],
    ['eq', 'Yes ', 'Yes', 0],
    ['ne', 'Yes', 'yes', 1],
    ['ne', 'Yes', 'Yes', 0],
    ['like', 'Oh Yes!', 'Yes', 1],
    ['like', 'Oh Yes!', 'yes', 0],
    ['ilike', 'Oh Yes!', 'yES', 1],
    ['ilike', 'Oh!', 'yes', 0],
  ] as const)('%s: %j and %j', async (operation, output, reference, score) => {
    const grader: Grader = {
      type: 'string_check',
      name: 's',
      input: '{{sample.output_text}}',
      reference,
      operation,
    };
    expect(await grade(grader, subject(output), tools, never)).toMatchObject({
      score,
      passed: score === 1,
      errors: [],
    });
  });

  test('what is not there is an error and 0', async () => {
    const grader: Grader = {
      type: 'string_check',
      name: 's',
      input: '{{item.x}}',
      reference: 'a',
      operation: 'ne',
    };
    const found = await grade(grader, subject('a'), tools, never);
    expect(found).toMatchObject({ score: 0, passed: false });
    expect(found.errors).toEqual([{ kind: 'invalid_variable_error', details: '{{item.x}} is not there' }]);
  });
});

describe('score_model', () => {
  const grader: Grader = {
    type: 'score_model',
    name: 'judge',
    model: 'm',
    input: [
      { role: 'system', content: 'You are strict.' },
      {
        role: 'user',
        content: [{ type: 'input_text', text: 'Rate {{sample.output_text}}' }, 'for {{item.of}}'],
      },
    ],
    range: [0, 10],
    sampling_params: { temperature: 0.5, seed: 3, max_completions_tokens: 50, top_p: null },
    pass_threshold: 6,
  };

  test.each([
    ['{"result": 7, "steps": []}', 7, true],
    ['Here: ```json\n{"steps": [{"description": "a", "conclusion": "b"}], "result": 5.5}\n```', 5.5, false],
    ['{"result": 99}', 10, true],
    ['{"result": -3}', 0, false],
    [' 6 ', 6, true],
  ])('%s', async (text, score, passed) => {
    expect(await grade(grader, subject('x', { of: 'y' }), judgeWho({ text }).tools, never)).toMatchObject({
      score,
      passed,
      errors: [],
      usage: [{ model: 'm', tokens: usage }],
    });
  });

  test('asks with its messages filled in and the instruction at their end', async () => {
    const judge = judgeWho({ text: '1' });
    await grade(grader, subject('an answer', { of: 'wit' }), judge.tools, never);
    const [question] = judge.asked;
    expect(question).toMatchObject({ model: 'm', temperature: 0.5, topP: 1, seed: 3, maxTokens: 50 });
    expect(question!.messages[0]).toEqual({ role: 'system', content: 'You are strict.' });
    expect(question!.messages[1]!.content).toMatch(
      /^Rate an answer\nfor wit\n\nAnswer with JSON.*from 0 to 10/s,
    );
  });

  test.each([
    ['words', { text: 'very good' }, 'model_grader_parse_error', 1],
    ['a text as result', { text: '{"result": "7"}' }, 'model_grader_parse_error', 1],
    ['a refusal', { refusal: 'I cannot' }, 'model_grader_refusal_error', 1],
    ['a failure', new ApiError('server_error', 'away'), 'model_grader_server_error', 0],
  ])('%s: 0 and an error', async (_, says, kind, uses) => {
    const found = await grade(grader, subject('x', { of: 'y' }), judgeWho(says).tools, never);
    expect(found).toMatchObject({ score: 0, passed: false, errors: [{ kind }] });
    expect(found.usage.length).toBe(uses);
  });

  test('a bug is not a grade', async () => {
    const judge = judgeWho(new TypeError('a bug'));
    await expect(grade(grader, subject('x', { of: 'y' }), judge.tools, never)).rejects.toThrow('a bug');
  });
});

describe('label_model', () => {
  const grader: Grader = {
    type: 'label_model',
    name: 'mood',
    model: 'm',
    input: [{ role: 'user', content: '{{sample.output_text}}' }],
    labels: ['good', 'not good', 'bad'],
    passing_labels: ['good'],
  };
  test.each([
    ['good', 1],
    ['"Good".', 1],
    ['bad', 0],
    ['I would say: bad!', 0],
    ['not good', 0],
  ])('%s', async (text, score) => {
    const found = await grade(grader, subject('x'), judgeWho({ text }).tools, never);
    expect(found).toMatchObject({ score, passed: score === 1, errors: [] });
  });

  test.each(['', 'goodness', 'good or bad'])('%j is no label', async text => {
    const found = await grade(grader, subject('x'), judgeWho({ text }).tools, never);
    expect(found.errors).toMatchObject([{ kind: 'model_grader_parse_error' }]);
  });
});

describe('formulas', () => {
  const values = new Map([
    ['a', 3],
    ['b', 0.5],
    ['maß_1', 2],
  ]);
  test.each([
    ['a + b * 2', 4],
    ['(a + b) * 2', 7],
    ['-a ^ 2', -9],
    ['2 ^ 3 ^ 2', 512],
    ['2 ^ -1', 0.5],
    ['-a * -b', 1.5],
    ['1 - 2 - 3', -4],
    ['12 / 2 / 3', 2],
    ['min(a, b, maß_1) + max(a, 1e1)', 10.5],
    ['floor(a * b) + ceil(1.2) + abs(-2)', 5],
    ['sqrt(9) + exp(0) + log(1)', 4],
    ['.5 + 5. + +1', 6.5],
    ['0.7*a+0.3 * (b)', 2.25],
  ])('%s = %d', (text, value) => expect(evaluateFormula(parseFormula(text), values)).toBeCloseTo(value, 12));

  test.each([
    ['', 'ends unexpectedly'],
    ['a +', 'ends unexpectedly'],
    ['a b', "unexpected 'b'"],
    ['(a', 'ends unexpectedly'],
    ['a)', "unexpected ')'"],
    ['a ** b', "unexpected '*'"],
    ['sin(a)', "unknown function 'sin'"],
    ['constructor(a)', "unknown function 'constructor'"],
    ['sqrt(a, b)', 'takes one value'],
    ['min()', "unexpected ')'"],
    ['a.b', "unexpected '.' at character 2"],
    ['a; b', "unexpected ';' at character 2"],
    ['`a`', 'at character 1'],
    ['a constructor b', "unexpected 'constructor'"],
    [`${'('.repeat(500)}a${')'.repeat(500)}`, 'nested more than'],
  ])('%s is refused', (text, why) => expect(() => parseFormula(text)).toThrow(why));
});

test('whatever text a formula is, it is read or refused', () => {
  const pieces = fc.constantFrom(
    ...'a b 1 .5 2e3 + - * / ^ ( ) , min sqrt toString __proto__ constructor'.split(' '),
  );
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 12 }), tokens => {
      try {
        const formula = parseFormula(tokens.join(' '));
        const given = new Map(namesIn(formula).map(name => [name, 0.5]));
        expect(typeof evaluateFormula(formula, given)).toBe('number');
      } catch (error) {
        expect(error).toBeInstanceOf(FormulaError);
      }
    }),
    { numRuns: 3000 },
  );
});

describe('multi', () => {
  const check = (name: string, reference: string) =>
    ({ type: 'string_check', name, input: '{{sample.output_text}}', reference, operation: 'like' }) as const;
  const graders = { has_a: check('x', 'a'), has_b: check('y', 'b') };
  const multi = (calculate_output: string, parts: unknown = graders) =>
    ({ type: 'multi', name: 'both', graders: parts, calculate_output }) as Grader;

  test('a map of graders, an array, one alone', async () => {
    const both = await grade(multi('0.75 * has_a + 0.25 * has_b'), subject('a'), tools, never);
    expect(both).toMatchObject({ score: 0.75, scores: { has_a: 1, has_b: 0 } });
    const array = multi('max(x, y)', Object.values(graders));
    expect(await grade(array, subject('b'), tools, never)).toMatchObject({
      score: 1,
      scores: { x: 0, y: 1 },
    });
    expect(await grade(multi('1 - x', check('x', 'a')), subject('a'), tools, never)).toMatchObject({
      score: 0,
    });
  });

  test('a part that fails counts 0, and is told', async () => {
    const parts = { ...graders, gone: check('z', '{{item.gone}}') };
    const found = await grade(multi('has_a + gone', parts), subject('a'), tools, never);
    expect(found).toMatchObject({
      score: 1,
      scores: { gone: 0 },
      errors: [{ kind: 'invalid_variable_error' }],
    });
  });

  test.each([
    ['has_a +', 'formula_parse_error'],
    ['has_a + other', 'invalid_variable_error'],
    ['1 / (has_a - 1)', 'other_error'],
  ])('%s', async (formula, kind) => {
    expect((await grade(multi(formula), subject('a'), tools, never)).errors).toMatchObject([{ kind }]);
  });
});

describe('what is told before a grader is used', () => {
  const text = { name: 'g', input: '{{item.a}}', reference: 'b' };
  const input = [{ role: 'user', content: 'x' }];
  test.each([
    ['grader.input', { type: 'string_check', operation: 'eq', ...text, input: '{{foo.a}}' }],
    ['grader.reference', { type: 'text_similarity', evaluation_metric: 'bleu', ...text, reference: '{{a}}' }],
    ['grader.range', { type: 'score_model', name: 'g', model: 'm', input, range: [1, 1] }],
    [
      'grader.input[0].content',
      {
        type: 'score_model',
        name: 'g',
        model: 'm',
        input: [{ role: 'user', content: [{ type: 'input_image', image_url: 'x' }] }],
      },
    ],
    [
      'grader.labels',
      { type: 'label_model', name: 'g', model: 'm', input, labels: ['a', 'a'], passing_labels: ['a'] },
    ],
    [
      'grader.passing_labels',
      { type: 'label_model', name: 'g', model: 'm', input, labels: ['a'], passing_labels: ['b'] },
    ],
    ['grader.source', { type: 'python', name: 'g', source: 'print(1)' }],
    [
      'grader.source',
      { type: 'python', name: 'g', source: `def grade(a, b): return 1\n#${'x'.repeat(256 * 1024)}` },
    ],
    [
      'grader.calculate_output',
      {
        type: 'multi',
        name: 'g',
        graders: { a: { type: 'string_check', operation: 'eq', ...text } },
        calculate_output: 'a + b',
      },
    ],
    [
      'grader.calculate_output',
      {
        type: 'multi',
        name: 'g',
        graders: { a: { type: 'string_check', operation: 'eq', ...text } },
        calculate_output: 'a +',
      },
    ],
    [
      'grader.graders.a.input',
      {
        type: 'multi',
        name: 'g',
        graders: { a: { type: 'string_check', operation: 'eq', ...text, input: '{{x}}' } },
        calculate_output: 'a',
      },
    ],
  ])('%s', (param, grader) => {
    expect(() => checkGrader(grader as Grader, 'grader')).toThrow(expect.objectContaining({ param }));
  });

  test('the models that it asks', () => {
    const part = { type: 'score_model', name: 'g', model: 'm', input } as const;
    const multi = { type: 'multi', name: 'x', graders: { a: part }, calculate_output: 'a' } as Grader;
    expect(modelsOf(multi, 'grader')).toEqual([{ model: 'm', param: 'grader.graders.a.model' }]);
  });
});
