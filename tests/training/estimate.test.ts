// What is said of a run before it is made, against the run itself in a process of its own. No time is compared: that is luck.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { askChild } from '../../src/queue/ask-child.ts';
import { startTrainer } from '../../src/queue/trainer.ts';
import type { DryRunAnswer, DryRunSpec } from '../../src/training/dry-run.ts';
import type { Impossible, Machine, RunEstimate } from '../../src/training/estimate.ts';
import type { GradeAnswers, TrainerEvent, TrainSpec } from '../../src/training/protocol.ts';
import { eventsOf, toySpec } from './toy-task.ts';

vi.setConfig({ testTimeout: 120_000 });

const TINY = join(import.meta.dirname, '../../models/anneal-tiny');
const GB = 1e9;
/** What was measured is the same arithmetic in another process: it has been 0.69 to 0.9 of the run's. */
const FACTOR = 1.6;

const line = (words: number, index: number) => {
  const messages = [
    { role: 'user', content: `question ${10 + index} ${'in some words '.repeat(words)}` },
    { role: 'assistant', content: `answer${' and so on'.repeat(words)}` },
  ];
  return `${JSON.stringify({ messages })}\n`;
};

async function specOf(changes: Partial<TrainSpec>, words = (_: number) => 10): Promise<TrainSpec> {
  const spec = toySpec({ engine: 'onnx', modelDirectory: TINY, validationFile: null, ...changes });
  await writeFile(spec.trainingFile, Array.from({ length: 12 }, (_, i) => line(words(i), i)).join(''));
  return spec;
}

/** In a process of its own, as an api does it: memory is that of the process. */
async function estimatesOf(spec: TrainSpec, machines: Machine[]): Promise<(RunEstimate | Impossible)[]> {
  const specPath = `${spec.workDirectory}.dry-run.json`;
  const asked: DryRunSpec = { ...spec, trainingFileId: 'file', validationFileId: null, machines };
  await writeFile(specPath, JSON.stringify(asked));
  const module = join(import.meta.dirname, '../../src/training/dry-run-child.ts');
  const { signal } = new AbortController();
  const answer = await askChild<DryRunAnswer>({ module, specPath, what: 'the dry run', signal });
  return answer.type === 'done' ? answer.report.estimates : [];
}

const machine = (changes: Partial<Machine> = {}): Machine => ({
  id: 'here',
  device: 'cpu',
  freeBytes: process.availableMemory(),
  budgetBytes: null,
  ...changes,
});

/** Memory that is not of files, of a process that is there. */
async function ownBytesOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
}

/** The whole run, and the most memory that it was seen with. */
async function trainIn(spec: TrainSpec): Promise<{ events: TrainerEvent[]; peakBytes: number }> {
  const path = `${spec.workDirectory}.json`;
  await writeFile(path, JSON.stringify(spec));
  const grade: GradeAnswers = async answers => answers.map((_, i) => ({ score: i % 2, errors: [] }));
  const trainer = startTrainer(path, { grade });
  const events: TrainerEvent[] = [];
  let peakBytes = 0;
  const look = async () => {
    peakBytes = Math.max(peakBytes, await ownBytesOf(trainer.pid!));
  };
  const looking = setInterval(() => void look(), 20);
  for await (const batch of trainer.events) {
    await look();
    events.push(...batch);
  }
  clearInterval(looking);
  return { events, peakBytes };
}

test.runIf(process.platform === 'linux').each([
  ['an adapter', {}],
  ['all weights', { adapter: 'full' }],
] as const)('agrees with the run: %s', async (_, changes) => {
  const spec = await specOf({ hyperparameters: { n_epochs: 1, ...changes } }, i => (i % 3 ? 4 : 16));
  const [estimate] = (await estimatesOf(spec, [machine()])) as RunEstimate[];
  const { events, peakBytes } = await trainIn(spec);
  expect(eventsOf(events, 'prepared')[0]!.layout).toMatchObject({
    micro_batch_rows: estimate!.shapes.map(({ rows }) => rows),
    row_lengths: estimate!.shapes.map(({ length }) => length),
  });
  expect(estimate!.memoryBytes / peakBytes).toBeGreaterThan(1 / FACTOR);
  expect(estimate!.memoryBytes / peakBytes).toBeLessThan(FACTOR);
  const flops = eventsOf(events, 'step').reduce((sum, step) => sum + step.flops, 0);
  expect(estimate!.flops).toBe(flops);
});

test.runIf(process.platform === 'linux').each([
  ['an adapter', {}],
  ['all weights', { adapter: 'full' }],
] as const)(
  'the evaluation at the end is in it, where it takes more than the steps: %s',
  async (_, changes) => {
    const hyperparameters = { n_epochs: 1, batch_size: 1, ...changes };
    const spec = await specOf({ hyperparameters }, () => 1);
    const [without] = (await estimatesOf(spec, [machine()])) as RunEstimate[];
    const validationFile = `${spec.trainingFile}.validation`;
    const long = { role: 'user', content: 'a question in so many words '.repeat(30) };
    const messages = [long, { role: 'assistant', content: 'No.' }];
    await writeFile(validationFile, `${JSON.stringify({ messages })}\n`.repeat(10));
    const [estimate] = (await estimatesOf({ ...spec, validationFile }, [machine()])) as RunEstimate[];
    const { peakBytes } = await trainIn({ ...spec, validationFile });
    expect(estimate!.memoryBytes).toBeGreaterThan(1.2 * without!.memoryBytes);
    expect(estimate!.memoryBytes / peakBytes).toBeGreaterThan(1 / FACTOR);
    expect(estimate!.memoryBytes / peakBytes).toBeLessThan(FACTOR);
  },
);

test('lays the run out within the memory of each machine, and says where it cannot be', async () => {
  const spec = await specOf({ hyperparameters: { n_epochs: 1, batch_size: 12 } });
  const [wide, narrow, none] = await estimatesOf(spec, [
    machine({ id: 'wide', freeBytes: 100 * GB }),
    machine({ id: 'narrow', freeBytes: 100 * GB, budgetBytes: 0.15 * GB }),
    machine({ id: 'none', budgetBytes: 1000 }),
  ]);
  const largest = ({ shapes }: RunEstimate) => Math.max(...shapes.map(({ rows, length }) => rows * length));
  expect(largest(narrow as RunEstimate)).toBeLessThan(largest(wide as RunEstimate));
  expect((narrow as RunEstimate).memoryBytes).toBeLessThan((wide as RunEstimate).memoryBytes);
  expect(none).toEqual({ machine: 'none', failure: expect.stringMatching(/are available/) });
});

test.runIf(process.platform === 'linux')('answers that are learnt from are in it', async () => {
  const hyperparameters = { n_epochs: 1, batch_size: 4, max_completion_length: 16 };
  const grader = { type: 'string_check', name: 'a', input: 'a', reference: 'a', operation: 'eq' } as const;
  const spec = await specOf({ method: { type: 'reinforcement', grader }, hyperparameters });
  const prompt = { messages: [{ role: 'user', content: 'Well? '.repeat(40) }] };
  await writeFile(spec.trainingFile, `${JSON.stringify(prompt)}\n`.repeat(12));
  const asked = { ...spec, validationFile: spec.trainingFile };
  const [estimate] = (await estimatesOf(asked, [machine()])) as RunEstimate[];
  const { peakBytes } = await trainIn(asked);
  expect(estimate!.memoryBytes / peakBytes).toBeGreaterThan(1 / FACTOR);
  expect(estimate!.memoryBytes / peakBytes).toBeLessThan(FACTOR);
});
