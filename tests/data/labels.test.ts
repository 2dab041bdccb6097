// Lines that name a class, classes or a number: what is wrong with them, one by one and together, and the tokens and targets they become.
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { classificationForm, readTokens, regressionForm, truncateRead } from '../../src/data/labelled.ts';
import { type LabelSettings, LONGEST_LABEL, MOST_LABELS } from '../../src/data/labels.ts';
import { loadTokenizer } from '../../src/data/tokenizer.ts';
import { type FileKind, type Method, toJobError, validateTrainingFile } from '../../src/data/validate.ts';

const line = (label: unknown = 'a', input: unknown = 'text') => ({ input, label });
const lines = (...labels: unknown[]) => labels.map(label => line(label));
const toText = (all: readonly (object | string)[]) =>
  all.map(each => (typeof each === 'string' ? each : JSON.stringify(each))).join('\n');

interface Given {
  kind?: FileKind;
  method?: Method;
  settings?: LabelSettings;
  training?: object[];
}

async function validate(all: object[], given: Given = {}) {
  const { kind = 'training', method = 'classification', settings, training } = given;
  const earlier = training
    ? await validateTrainingFile([Buffer.from(toText(training))], { kind: 'training', method, settings })
    : null;
  const source = [Buffer.from(toText(all))];
  return validateTrainingFile(source, { kind, method, settings, training: earlier });
}

const errorOf = async (all: object[], given: Given = {}) =>
  toJobError(
    await validate(all, given),
    'file-1',
    given.kind === 'validation' ? 'validation_file' : 'training_file',
  );

const GOOD = lines(...'abcabcabcabc');

describe('a line', () => {
  test.each<[string, object, string, string]>([
    [
      'no label',
      { input: 'x' },
      'label',
      " is missing key 'label' (one label) or 'labels' (a list of any number)",
    ],
    ['an empty label', line(' '), 'label', ': \'label\' must be a string that is not empty, not " "'],
    ['a number as label', line(3), 'label', ": 'label' must be a string that is not empty, not 3"],
    [
      'a long label',
      line('x'.repeat(LONGEST_LABEL + 1)),
      'label',
      `: 'label' is longer than ${LONGEST_LABEL} characters`,
    ],
    ['both kinds of label', { ...line(), labels: [] }, 'labels', " has both 'label' and 'labels'"],
    ['no text', { label: 'a' }, 'input', " is missing key 'input' or 'messages'"],
    ['an empty text', line('a', ''), 'input', ": 'input' must be a string that is not empty"],
    ['a text and messages', { ...line(), messages: [] }, 'input', " has both 'input' and 'messages'"],
    ['an extra key', { ...line(), weight: 1 }, 'weight', ' contains an extra "weight".'],
    [
      'a message without a role',
      { messages: [{ content: 'a' }], label: 'a' },
      'messages[0].role',
      ", message 1 Discriminator 'role' is missing in value",
    ],
  ])('with %s', async (_, wrong, path, text) => {
    const report = await validate([...GOOD, wrong]);
    expect(report.errors).toEqual([{ line: 13, path, message: `Example 13${text}` }]);
  });

  test.each<[string, object, string, string]>([
    [
      'a list that is none',
      { input: 'x', labels: 'a' },
      'labels',
      ': \'labels\' must be a list of strings, not "a"',
    ],
    ['a label twice', { input: 'x', labels: ['a', 'a'] }, 'labels[1]', ' has the label "a" twice'],
    [
      'a number among them',
      { input: 'x', labels: [1] },
      'labels[0]',
      ': label 1 must be a string that is not empty, not 1',
    ],
  ])('with several labels and %s', async (_, wrong, path, text) => {
    const report = await validate([{ input: 'x', labels: ['a'] }, { input: 'y', labels: [] }, wrong]);
    expect(report.errors).toEqual([{ line: 3, path, message: `Example 3${text}` }]);
  });

  test.each<[string, object, string]>([
    ['no value', { input: 'x' }, " is missing key 'value'"],
    ['a text as value', { input: 'x', value: '3' }, ': \'value\' must be a number, not "3"'],
    [
      'a value that float32 does not hold',
      { input: 'x', value: 1e39 },
      ": 'value' must be from -3.4e38 to 3.4e38, not 1e+39",
    ],
  ])('of a regression with %s', async (_, wrong, text) => {
    const good = Array.from({ length: 10 }, (_, i) => ({ input: 'x', value: i / 2 - 1 }));
    const report = await validate([...good, wrong], { method: 'regression' });
    expect(report.errors).toEqual([{ line: 11, path: 'value', message: `Example 11${text}` }]);
  });

  test('a conversation needs no answer of an assistant', async () => {
    const asked = { messages: [{ role: 'user', content: 'a' }], label: 'a' };
    expect(await errorOf([...GOOD, asked])).toBeNull();
  });
});

describe('a file', () => {
  test('with labels is right; its labels are in order and counted', async () => {
    const { labels, errorCount } = await validate(lines(...'bbacbbbbbbb'));
    expect(errorCount).toBe(0);
    expect(labels).toEqual({
      multiple: false,
      labels: ['a', 'b', 'c'],
      lines: 11,
      counts: new Map([
        ['b', 9],
        ['a', 1],
        ['c', 1],
      ]),
    });
  });

  test('with a single label has nothing to tell apart', async () => {
    expect(await errorOf(lines(...'aaaaaaaaaaaa'))).toMatchObject({
      code: 'invalid_training_file',
      message: expect.stringContaining(
        'The file has only the label "a"; there must be at least 2 to tell apart',
      ),
    });
    const multiple = Array.from({ length: 10 }, () => ({ input: 'x', labels: [] }));
    expect((await errorOf(multiple))!.message).toContain('The file has no label; there must be at least 1');
  });

  test('with one label and several by turns', async () => {
    const report = await validate([...GOOD, { input: 'x', labels: ['a'] }]);
    expect(report.errors[0]).toMatchObject({
      line: 13,
      message: "Example 13 has 'labels', but the file begins with 'label'",
    });
  });

  test('with more labels than are served', async () => {
    const many = Array.from({ length: MOST_LABELS + 1 }, (_, i) => line(`label ${i}`));
    expect((await errorOf(many))!.message).toContain(
      `has ${MOST_LABELS + 1} labels; at most ${MOST_LABELS} are supported`,
    );
  });

  test('with a label that the job does not name', async () => {
    const settings = { labels: ['b', 'a'] };
    const report = await validate(GOOD, { settings });
    expect(report.labels!.labels).toEqual(['b', 'a']);
    expect(report.errors.map(({ line, message }) => [line, message])).toEqual(
      [3, 6, 9, 12].map(at => [
        at,
        `Example ${at} has the label "c", which is not among the labels of the job`,
      ]),
    );
  });

  test('with class weights for a label that it has not', async () => {
    const error = await errorOf(GOOD, { settings: { class_weights: { a: 2, z: 1 } } });
    expect(error!.message).toContain('class_weights names "z", which is no label');
    expect(await errorOf(GOOD, { settings: { class_weights: 'balanced' } })).toBeNull();
  });

  test('to measure on, with a label that the training file has not', async () => {
    const given: Given = { kind: 'validation', training: GOOD };
    const report = await validate(lines('a', 'd'), given);
    expect(report.errors).toEqual([
      { line: 2, path: 'label', message: 'Example 2 has the label "d", which is not in the training file' },
    ]);
    expect(await errorOf(lines('a'), given)).toBeNull();
    const several = await validate([{ input: 'x', labels: ['a'] }], given);
    expect(several.errors[0]!.message).toBe("Example 1 has 'labels', but the training file has 'label'");
  });

  test.each<[Method, object, string, string]>([
    ['supervised', line(), 'classification', 'classification'],
    ['classification', { prompt: 'a', completion: 'b' }, 'fine-tune-completions', 'supervised'],
    ['classification', { input: 'a', value: 1 }, 'regression', 'regression'],
    ['regression', line(), 'classification', 'classification'],
  ])('for the method %s in another format', async (method, given, format, needed) => {
    const { message } = (await errorOf(Array(12).fill(given), { method }))!;
    expect(message).toContain(`is in the ${format} format`);
    expect(message).toContain(`not using '${needed}' as the training method (provided method=${method})`);
  });
});

describe('an example', async () => {
  const golden = (name: string) => join(import.meta.dirname, '../golden', name);
  const tokenizer = await loadTokenizer(golden('llama-tiny'));

  test('is the text with all that the tokenizer puts around it, and the place of its label', () => {
    const form = classificationForm({ multiple: false, labels: ['a', 'b'] });
    const [example] = form.examples({ input: 'some text', label: 'b' }, tokenizer);
    const tokens = tokenizer.encodeWhole('some text');
    expect([...example!.sequences[0]!.tokens]).toEqual(tokens);
    expect([...example!.sequences[0]!.trained]).toEqual(tokens.map(() => 1));
    expect([...Array.from(example!.values)]).toEqual([1]);
    expect(form.answer({ input: 'some text', label: 'b' })).toBe('b');
  });

  test('has a place for every label where there may be several', () => {
    const form = classificationForm({ multiple: true, labels: ['a', 'b', 'c'] });
    const targets = (labels: string[]) =>
      Array.from(form.examples({ input: 'x', labels }, tokenizer)[0]!.values);
    expect(form.values).toBe(3);
    expect(targets(['c', 'a'])).toEqual([1, 0, 1]);
    expect(targets([])).toEqual([0, 0, 0]);
  });

  test('of a conversation is what the chat template writes of all of it', () => {
    const messages = [{ role: 'user' as const, content: 'hello' }];
    const [example] = regressionForm.examples({ messages, value: 0.5 }, tokenizer);
    expect([...example!.sequences[0]!.tokens]).toEqual(tokenizer.encodeChat(messages));
    expect(Array.from(example!.values)).toEqual([0.5]);
  });

  test('other labels are another form: tokens are not taken for each other’s', () => {
    const identity = (multiple: boolean, labels: string[]) =>
      classificationForm({ multiple, labels }).identity;
    const all = [identity(false, ['a', 'b']), identity(true, ['a', 'b']), identity(false, ['b', 'a'])];
    expect(new Set([...all, regressionForm.identity]).size).toBe(4);
  });

  test('is cut before what closes a text', () => {
    const closing = { ...tokenizer, around: { before: [1], after: [8, 9] } };
    const cut = (tokens: number[], length: number) => [
      ...truncateRead(
        { tokens: Int32Array.from(tokens), trained: new Uint8Array(tokens.length) },
        length,
        closing,
      ).tokens,
    ];
    expect(cut([1, 5, 6, 7, 8, 9], 6)).toEqual([1, 5, 6, 7, 8, 9]);
    expect(cut([1, 5, 6, 7, 8, 9], 4)).toEqual([1, 5, 8, 9]);
    expect(cut([1, 5, 6, 7, 8], 4)).toEqual([1, 5, 6, 7]);
    expect(readTokens({ input: 'x' }, tokenizer)).toEqual(tokenizer.encodeWhole('x'));
  });

  test('has around a conversation what the tokenizer puts around a text, once', () => {
    const line = { messages: [{ role: 'user' as const, content: 'x' }] };
    const said = (tokens: number[], before: number[], after: number[]) =>
      readTokens(line, { ...tokenizer, around: { before, after }, encodeChat: () => tokens });
    expect(said([5, 6], [1], [8])).toEqual([1, 5, 6, 8]);
    expect(said([1, 5, 6, 8], [1], [8])).toEqual([1, 5, 6, 8]);
    expect(said([5, 6], [], [8])).toEqual([5, 6, 8]);
    expect(readTokens(line, tokenizer)).toEqual(tokenizer.encodeChat(line.messages));
  });
});
