// A dry run against what a real run of the same spec then says, and against files whose numbers are known by hand.
import { appendFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { loadTokenizer } from '../../src/data/tokenizer.ts';
import { type DryRunSpec, dryRun } from '../../src/training/dry-run.ts';
import type { TrainSpec } from '../../src/training/protocol.ts';
import { collect, eventsOf, toySpec } from './toy-task.ts';

const named = (spec: TrainSpec): DryRunSpec => ({
  ...spec,
  trainingFileId: 'file-t',
  validationFileId: spec.validationFile && 'file-v',
  machines: [],
});

const chat = (user: string, assistant: string) =>
  `${JSON.stringify({
    messages: [
      { role: 'user', content: user },
      { role: 'assistant', content: assistant },
    ],
  })}\n`;

const lines = (count: number) => Array.from({ length: count }, (_, i) => chat(`q ${i}`, `a ${i}`)).join('');

test.each([
  ['as asked', {}],
  ['all automatic', { n_epochs: 'auto', batch_size: 'auto', rank: undefined }],
  ['with examples that are cut', { max_length: 20 }],
  ['of all weights', { adapter: 'full' }],
] as const)('says what the run then says: %s', async (_, hyperparameters) => {
  const spec = toySpec({ hyperparameters: hyperparameters as TrainSpec['hyperparameters'] });
  const long = chat(`red ${'more words '.repeat(20)}`, 'red');
  appendFileSync(spec.trainingFile, chat('r abcd', `red${' and so on'.repeat(12)}`) + long);
  const report = await dryRun(named(spec));
  const events = await collect(spec, event => (event.type === 'prepared' ? { type: 'cancel' } : null));
  const prepared = eventsOf(events, 'prepared')[0]!;
  expect({
    hyperparameters: report.hyperparameters,
    totalSteps: report.totalSteps,
    trainedTokens: report.trainedTokens,
    examples: report.training.counts.count,
    validationExamples: report.validation!.counts.count,
    truncatedExamples: report.training.counts.truncated + report.validation!.counts.truncated,
    droppedExamples: report.training.counts.dropped + report.validation!.counts.dropped,
    equalAnswers: {
      training: report.training.counts.equalAnswers,
      validation: report.validation!.counts.equalAnswers,
    },
  }).toEqual({
    hyperparameters: prepared.hyperparameters,
    totalSteps: prepared.totalSteps,
    trainedTokens: prepared.trainedTokens,
    examples: prepared.examples,
    validationExamples: prepared.validationExamples,
    truncatedExamples: prepared.truncatedExamples,
    droppedExamples: prepared.droppedExamples,
    equalAnswers: prepared.equalAnswers,
  });
  expect(report.error).toBeNull();
  if ('max_length' in hyperparameters) {
    const { dropped, truncated, lines, count } = report.training.counts;
    expect(dropped).toBeGreaterThan(0);
    expect(truncated).toBeGreaterThan(dropped);
    expect(count).toBe(lines - dropped);
    expect(report.training.longest).toBe(20);
  }
});

test.each([
  ['hyperparameters out of their range', { n_epochs: 51 }, lines(12)],
  ['a length that the model does not have', { max_length: 1_000_000 }, lines(12)],
  [
    'a file of which the cut leaves nothing to learn',
    { max_length: 8 },
    Array.from({ length: 12 }, (_, i) => chat(`a question ${i}`, 'a')).join(''),
  ],
  ['an adapter on layers that are not there', { target_modules: ['nothing'] }, lines(12)],
])('gives the error that the run fails with: %s', async (_, hyperparameters, file) => {
  const spec = toySpec({ hyperparameters, validationFile: null });
  writeFileSync(spec.trainingFile, file);
  const { error } = await dryRun(named(spec));
  const events = await collect(spec);
  const { type: _type, ...failed } = eventsOf(events, 'failed')[0]!;
  expect(error).toEqual(failed);
});

test('names every bad line, and counts the others', async () => {
  const spec = toySpec({ validationFile: null });
  writeFileSync(spec.trainingFile, `${lines(11)}{"messages": []}\nnot json\n\n${chat('q', 'a')}[1]\n`);
  const report = await dryRun(named(spec));
  expect(report.training.validation.errors.map(error => error.line)).toEqual([12, 13, 16]);
  expect(report.training.validation).toMatchObject({ examples: 15, badLines: 3, errorCount: 3 });
  expect(report.training.counts).toMatchObject({ lines: 12, count: 12 });
  expect(report.error).toMatchObject({ code: 'invalid_training_file', param: 'training_file' });
});

test('shows examples token by token, with what is learnt', async () => {
  const spec = toySpec();
  const tokenizer = await loadTokenizer(spec.modelDirectory);
  const { training } = await dryRun(named(spec));
  expect(training.samples.map(({ line }) => line)).toEqual([1, 2, 3]);
  const [sample] = training.samples;
  const conversation = [
    { role: 'user', content: 'r ' },
    { role: 'assistant', content: 'red' },
  ] as const;
  const rendered = tokenizer.displayText(tokenizer.renderChat(conversation));
  const shown = sample!.tokens.map(({ text }) => text).join('');
  expect(sample!.tokens).toHaveLength(sample!.length);
  expect(rendered.endsWith(shown) || rendered.startsWith(shown) || shown.endsWith(rendered.trimEnd())).toBe(
    true,
  );
  const learnt = sample!.tokens.filter(({ trained }) => trained);
  const text = learnt.map(token => token.text).join('');
  expect(text.startsWith('red')).toBe(true);
  expect(tokenizer.eosIds).toContain(learnt.at(-1)!.id);
});

test('counts the beginnings and ends of texts', async () => {
  const spec = toySpec({}, 12);
  const tokenizer = await loadTokenizer(spec.modelDirectory);
  const { control } = (await dryRun(named(spec))).training;
  expect(control).toMatchObject({
    bosId: tokenizer.bosId,
    bosTokens: tokenizer.bosId === null ? 0 : 12,
    examplesWithSeveralBos: 0,
    trainedEosTokens: 12,
    examplesWithoutTrainedEos: 0,
  });
  const cut = await dryRun(named({ ...spec, hyperparameters: { max_length: 16 } }));
  const left = cut.training.counts.count;
  expect(cut.training.control.examplesWithoutTrainedEos).toBe(left - cut.training.control.trainedEosTokens);
});

test('finds lines that are the same within and between files, however they are written', async () => {
  const spec = toySpec();
  const again = ` ${chat('q 3', 'a 3').replaceAll('":"', '": "')}`;
  writeFileSync(spec.trainingFile, lines(12) + again + chat('q 3', 'a 3') + chat('q 3', 'another'));
  writeFileSync(spec.validationFile!, chat('q 100', 'a') + chat('q 5', 'a 5'));
  const report = await dryRun(named(spec));
  expect(report.training.duplicates).toEqual({ count: 2, groups: [[4, 13, 14]] });
  expect(report.validation!.duplicates).toEqual({ count: 0, groups: [] });
  expect(report.duplicatesBetween).toEqual({ count: 1, groups: [[6, 2]] });
});

test('finds pairs of answers that are the same, also when a cut makes them so', async () => {
  const message = (content: string) => [{ role: 'assistant', content }];
  const pair = (preferred: string, other: string) =>
    `${JSON.stringify({
      input: { messages: [{ role: 'user', content: 'q' }] },
      preferred_output: message(preferred),
      non_preferred_output: message(other),
    })}\n`;
  const spec = toySpec({ method: { type: 'dpo' }, validationFile: null });
  const long = 'word '.repeat(40);
  const others = Array.from({ length: 8 }, (_, i) => pair(`yes ${i}`, 'no')).join('');
  writeFileSync(
    spec.trainingFile,
    pair('yes', 'no') + pair('no', 'no') + pair(`${long}a`, `${long}b`) + others,
  );
  const whole = await dryRun(named(spec));
  expect(whole).toMatchObject({
    error: null,
    training: { counts: { equalAnswers: { count: 1, lines: [2] } } },
  });
  const cut = await dryRun(named({ ...spec, hyperparameters: { max_length: 32 } }));
  expect(cut.training.counts.equalAnswers).toEqual({ count: 2, lines: [2, 3] });
  const events = await collect(spec, event => (event.type === 'prepared' ? { type: 'cancel' } : null));
  const [prepared] = eventsOf(events, 'prepared');
  expect(prepared!.equalAnswers).toEqual({ training: { count: 1, lines: [2] }, validation: null });
  expect((await dryRun(named(toySpec()))).training.counts.equalAnswers).toBeNull();
});

test('counts answers where they are few', async () => {
  const spec = toySpec();
  const few = ['yes', 'no', 'yes', 'yes', 'no', 'maybe', 'yes', 'no', 'yes', ' yes '];
  writeFileSync(spec.trainingFile, few.map((answer, i) => chat(`q ${i}`, answer)).join(''));
  writeFileSync(spec.validationFile!, lines(60));
  const report = await dryRun(named(spec));
  expect(report.training.answers).toEqual([
    { answer: 'yes', count: 6 },
    { answer: 'no', count: 3 },
    { answer: 'maybe', count: 1 },
  ]);
  expect(report.validation!.answers).toBeNull();
});

test('a file of preferences is refused as a whole', async () => {
  const spec = toySpec({ validationFile: null });
  const turn = (content: string) => [{ role: 'assistant', content }];
  const line = {
    input: { messages: [{ role: 'user', content: 'q' }] },
    preferred_output: turn('a'),
    non_preferred_output: turn('b'),
  };
  writeFileSync(spec.trainingFile, `${JSON.stringify(line)}\n`.repeat(12));
  const report = await dryRun(named(spec));
  expect(report.error?.message).toContain('fine-tune-preference');
  expect(report).toMatchObject({ hyperparameters: null, totalSteps: null, stateBytes: null });
});

test('of prompts: every number but those that only answers have', async () => {
  const grader = { type: 'string_check', name: 'x', input: '', reference: '', operation: 'eq' } as const;
  const spec = toySpec({
    method: { type: 'reinforcement', grader },
    hyperparameters: { compute_multiplier: 0.5, max_completion_length: 6 },
  });
  const prompts = (count: number, first: number) =>
    Array.from({ length: count }, (_, i) => {
      const line = { messages: [{ role: 'user', content: `q ${first + i}` }], label: i };
      return `${JSON.stringify(line)}\n`;
    }).join('');
  writeFileSync(spec.trainingFile, prompts(12, 0));
  writeFileSync(spec.validationFile!, prompts(3, 100));
  const report = await dryRun(named(spec));
  expect(report).toMatchObject({
    error: null,
    totalSteps: 4,
    trainedTokens: null,
    hyperparameters: { compute_multiplier: 0.5, eval_interval: 5, max_completion_length: 6 },
  });
  expect(report.trainedParameters).toBeGreaterThan(0);
});
