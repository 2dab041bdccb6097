// Group relative policy optimization: one step against PyTorch's numbers, advantages by hand, and runs whose answers are graded.
import { cpSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Example, tokensOf } from '../../src/data/example-form.ts';
import type { EngineName } from '../../src/engine/engine.ts';
import { tensorflowIsSetUp } from '../../src/engine/tensorflow-backend.ts';
import { readHeader, readTensor } from '../../src/formats/safetensors.ts';
import type { RolloutNumbers } from '../../src/training/hyperparameters.ts';
import { planBatch } from '../../src/training/layout.ts';
import { reinforcement } from '../../src/training/objectives/reinforcement.ts';
import type { GradeAnswers, TrainerCommand, TrainerEvent, TrainSpec } from '../../src/training/protocol.ts';
import { advantagesOf } from '../../src/training/rollouts.ts';
import { runTraining } from '../../src/training/run.ts';
import { viewsOf } from '../../src/training/state.ts';
import { relativeDifference } from '../models/golden.ts';
import { golden, openGolden, ourName } from './golden-run.ts';
import { eventsOf, toySpec } from './toy-task.ts';

interface Sample {
  prompt: number[];
  answer: number[];
  reward: number;
  advantage: number;
  reference: number[];
}

const {
  groups,
  kl,
  loss,
  kl_coefficient,
}: { groups: Sample[][]; kl: number; loss: number; kl_coefficient: number } = JSON.parse(
  readFileSync(join(golden('llama3'), 'grpo.json'), 'utf8'),
);

/** Calls as Hermes models write them. */
const HERMES =
  "{%- for tool in tools or [] -%}{{ tool.function.name }}{%- endfor -%}{%- for message in messages -%}{{ message.role + ': ' }}" +
  "{%- if message.tool_calls -%}{{ '<tool_call>\\n' + (message.tool_calls[0].function | tojson) + '\\n</tool_call>' }}" +
  "{%- else -%}{{ message.content }}{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}{{ 'assistant: ' }}{%- endif -%}";
const engines: EngineName[] = ['cpu', 'onnx', ...(tensorflowIsSetUp() ? ['tensorflow' as const] : [])];
/** Answers share rows of the first; the longest one fits. */
const SHAPES = [
  { rows: 2, length: 48 },
  { rows: 1, length: 24 },
];
const NUMBERS: RolloutNumbers = {
  compute_multiplier: 1,
  eval_interval: 1,
  eval_samples: 1,
  reasoning_effort: 'default',
  kl_coefficient,
  max_completion_length: 8,
};

function toExample({ prompt, answer, advantage, reference }: Sample): Example {
  const places = [...prompt, ...answer].map((_, i) => reference[i - prompt.length + 1] ?? 0);
  return {
    sequences: [
      {
        tokens: Int32Array.from([...prompt, ...answer]),
        trained: Uint8Array.from([...prompt.map(() => 0), ...answer.map(() => 1)]),
      },
    ],
    values: [advantage, ...places],
  };
}

const examples = groups.flat().map(toExample);

describe.each(engines)('on %s', { timeout: 120_000 }, engine => {
  const open = () =>
    openGolden({
      model: 'llama3',
      kind: 'lora',
      engine,
      shapes: SHAPES,
      objective: model => reinforcement(model, NUMBERS, { form: null, calls: false }),
    });

  it('has the loss and the divergence of a policy from its start', async () => {
    const trainer = await open();
    const sums = await trainer.measureLoss(examples);
    expect(sums.count).toBe(groups.flat().reduce((sum, { answer }) => sum + answer.length, 0));
    expect(sums.loss / sums.weight).toBeCloseTo(loss, 5);
    expect(sums.score / sums.count).toBeCloseTo(kl, 5);
    await trainer.close();
  });

  it('has the gradients', async () => {
    const trainer = await open();
    const plan = planBatch(examples.map(tokensOf), SHAPES, { hiddenSize: 8 });
    const step = { step: 1, learningRate: 0, weightDecay: 0, maxGradNorm: 1e9, seed: 0 };
    await trainer.takeStep(plan, examples, step);
    // At the first step m is a tenth of the gradient.
    const moments = viewsOf((await trainer.readState()).m, trainer.trained.state);
    const { tensors } = await readHeader(join(golden('llama3'), 'grpo.safetensors'));
    for (const [name, stored] of Object.entries(tensors)) {
      const gradient = moments[ourName(name)]!.map(moment => moment * 10);
      expect(relativeDifference(gradient, await readTensor(stored)), name).toBeLessThan(1e-4);
    }
    await trainer.close();
  });

  it('measures the log-probability of every token of an answer as it is at the start', async () => {
    const trainer = await open();
    // An adapter whose second half is zero is the base model.
    const start = new Float32Array(trainer.trained.state.size);
    const reference = await trainer.openReference(start);
    const measured = await reference.measure(examples);
    for (const [i, sample] of groups.flat().entries()) {
      const from = sample.prompt.length - 1;
      const own = Array.from(measured[i]!.subarray(from, from + sample.answer.length));
      for (const [place, logprob] of own.entries()) expect(logprob).toBeCloseTo(sample.reference[place]!, 4);
    }
    await reference.close();
    await trainer.close();
  });
});

describe('advantages', () => {
  it('are rewards in deviations from the mean of their group', () => {
    // Mean 0.5, deviation of a sample sqrt(4 * 0.25 / 3).
    const expected = 0.5 / (Math.sqrt(1 / 3) + 1e-4);
    expect(advantagesOf([1, 0, 1, 0])).toEqual([expected, -expected, expected, -expected]);
    for (const group of groups)
      for (const [i, advantage] of advantagesOf(group.map(({ reward }) => reward)).entries())
        expect(advantage).toBeCloseTo(group[i]!.advantage, 5);
  });

  it('are nothing where all answers are worth the same', () => {
    expect(advantagesOf([0.25, 0.25, 0.25])).toEqual([0, 0, 0]);
  });
});

describe('a run', { timeout: 240_000 }, () => {
  /** Any text with an `a` in it, the more the better: what a model of random weights finds by chance. */
  const countA: GradeAnswers = async answers =>
    answers.map(({ text }) => ({ score: (text.match(/a/g) ?? []).length, errors: [] }));

  function spec(changes: Partial<TrainSpec> = {}): TrainSpec {
    const grader = { type: 'string_check', name: 'x', input: '', reference: '', operation: 'eq' } as const;
    const made = toySpec({
      method: { type: 'reinforcement', grader },
      engine: 'onnx',
      ...changes,
      hyperparameters: {
        n_epochs: 5,
        batch_size: 4,
        rank: 4,
        learning_rate: 0.02,
        max_completion_length: 12,
        ...changes.hyperparameters,
      },
    });
    const lines = (first: number, count: number) =>
      Array.from({ length: count }, (_, i) => {
        const content = `Say ${'abcdefgh'.slice(0, (first + i) % 7)}`;
        return `${JSON.stringify({ messages: [{ role: 'user', content }], number: first + i })}\n`;
      }).join('');
    writeFileSync(made.trainingFile, lines(0, 16));
    writeFileSync(made.validationFile!, lines(100, 4));
    return made;
  }

  async function collect(
    given: TrainSpec,
    grade: GradeAnswers = countA,
    stopAt: (event: TrainerEvent) => TrainerCommand | null = () => null,
    stop = new AbortController(),
  ): Promise<TrainerEvent[]> {
    const events: TrainerEvent[] = [];
    const emit = (event: TrainerEvent) => {
      events.push(event);
      const command = stopAt(event);
      if (command) stop.abort(command);
    };
    await runTraining(given, emit, stop.signal, grade);
    return events;
  }

  const stepsOf = (events: TrainerEvent[]) => eventsOf(events, 'step').map(({ metrics }) => metrics);
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

  it('earns more and more, and keeps the best model by its reward on the validation file', async () => {
    const events = await collect(spec({ hyperparameters: { n_epochs: 10 } }));
    expect(eventsOf(events, 'failed')).toEqual([]);
    const steps = stepsOf(events);
    const rewards = steps.map(metrics => metrics.train_reward_mean!);
    expect(steps).toHaveLength(40);
    expect(mean(rewards.slice(-4))).toBeGreaterThan(2 * mean(rewards.slice(0, 4)));
    expect(steps[0]!.train_kl).toBeCloseTo(0, 6);
    expect(steps.at(-1)!.train_kl).toBeGreaterThan(0);
    expect(steps.map(metrics => metrics.valid_reward_mean !== undefined)).toEqual(
      steps.map(({ step }) => step % 5 === 0),
    );
    const full = steps.filter(metrics => metrics.full_valid_reward_mean !== undefined);
    expect(full.map(({ step }) => step)).toEqual(Array.from({ length: 10 }, (_, i) => 4 * (i + 1)));
    const best = Math.max(...full.map(metrics => metrics.full_valid_reward_mean!));
    const { bestStep, trainedTokens } = eventsOf(events, 'finished')[0]!;
    expect(full.find(({ step }) => step === bestStep)!.full_valid_reward_mean).toBe(best);
    expect(trainedTokens).toBe(
      steps.reduce((sum, metrics) => sum + Math.round(metrics.train_completion_length! * 32), 0),
    );
    expect(eventsOf(events, 'prepared')[0]!.hyperparameters).toMatchObject({
      compute_multiplier: 1,
      eval_interval: 5,
      eval_samples: 2,
      kl_coefficient: 0.04,
      max_completion_length: 12,
    });
  });

  it('is evaluated by what its answers earn, against the model that it began with', async () => {
    const first = spec({ hyperparameters: { n_epochs: 5 } });
    const events = await collect(first);
    const [report, steps] = [eventsOf(events, 'evaluation')[0]!.report, stepsOf(events)];
    const best = Math.max(...steps.map(metrics => metrics.full_valid_reward_mean ?? 0));
    expect(report).toMatchObject({
      validation_examples: 4,
      evaluated_examples: 4,
      samples: 2,
      max_tokens: 12,
      // From the folder that was saved, with the seeds of every validation.
      fine_tuned: { reward_mean: best, ungraded: 0 },
      validation: { reward_mean: best },
    });
    const { base, examples } = report as {
      base: Record<string, number>;
      examples: Record<string, unknown>[];
    };
    expect(base.reward_mean).toBeLessThan(best);
    expect(base.completion_length).toBeLessThanOrEqual(12);
    expect(examples).toHaveLength(4);
    for (const name of ['base', 'fine_tuned'])
      for (const example of examples)
        expect(example[`${name}_reward`]).toBe((example[name] as string).split('a').length - 1);

    const again = await collect({
      ...spec({ hyperparameters: { n_epochs: 1 } }),
      adapterDirectory: eventsOf(events, 'checkpoint').findLast(
        ({ kind, step }) => kind === 'model' && step === eventsOf(events, 'finished')[0]!.bestStep,
      )!.directory,
      validationFile: first.validationFile,
    });
    expect(eventsOf(again, 'evaluation')[0]!.report).toMatchObject({ base: { reward_mean: best } });
  });

  it('goes on from a checkpoint with the same numbers, bit for bit', async () => {
    const whole = spec({ hyperparameters: { n_epochs: 2 } });
    const events = await collect(whole);
    const wanted = stepsOf(events);
    const [point] = eventsOf(events, 'checkpoint').filter(
      ({ kind, step }) => kind === 'resume' && step === 3,
    );
    const again = await collect({
      ...whole,
      workDirectory: `${whole.workDirectory}-again`,
      resumeDirectory: point!.directory,
    });
    expect(stepsOf(again)).toEqual(wanted.slice(3));
  });

  it('stops in the middle of grading when it is told to, and goes on from there', async () => {
    for (const type of ['cancel', 'pause'] as const) {
      const stop = new AbortController();
      let asked = 0;
      const slow: GradeAnswers = async answers => {
        asked += 1;
        if (asked === 3) {
          setTimeout(() => stop.abort({ type }), 10);
          return new Promise(() => undefined);
        }
        return countA(answers);
      };
      const events = await collect(spec(), slow, () => null, stop);
      expect(events.at(-1)).toEqual({ type: 'stopped', reason: type, step: 2 });
    }
  });

  it('counts what cannot be graded as 0, says so, and fails where nothing can be', async () => {
    const error = { kind: 'python_grader_runtime_error' as const, details: 'ZeroDivisionError' };
    const some: GradeAnswers = async answers =>
      answers.map((_, i) => (i % 4 === 0 ? { score: 0, errors: [error] } : { score: 1, errors: [] }));
    const events = await collect(spec({ hyperparameters: { n_epochs: 1 } }), some);
    const warned = eventsOf(events, 'progress').filter(({ level }) => level === 'warn');
    expect(warned[0]!.message).toBe(
      '8 of 32 answers at step 1 could not be graded and count as 0. python_grader_runtime_error: ZeroDivisionError',
    );
    expect(stepsOf(events)[0]!.train_reward_mean).toBe(0.75);

    const none: GradeAnswers = async answers => answers.map(() => ({ score: 0, errors: [error] }));
    expect((await collect(spec(), none)).at(-1)).toMatchObject({
      type: 'failed',
      code: 'grader_failed',
      param: 'method.reinforcement.grader',
      message: expect.stringContaining('ZeroDivisionError'),
    });
  });

  it('gives graders the whole line, and answers that have the format asked for', async () => {
    const schema = {
      type: 'object',
      properties: { a: { enum: [1, 2] } },
      required: ['a'],
      additionalProperties: false,
    };
    const made = spec({ hyperparameters: { n_epochs: 1, max_completion_length: 40 } });
    const method = {
      ...made.method,
      response_format: { type: 'json_schema', json_schema: { schema, strict: true } },
    };
    const seen: unknown[] = [];
    // Those that are not done after 40 tokens are no JSON.
    const read = (text: string) => {
      try {
        return JSON.parse(text).a as number;
      } catch {
        return null;
      }
    };
    const grade: GradeAnswers = async answers => {
      for (const { item, text } of answers) {
        expect(item).toMatchObject({ number: expect.any(Number), messages: [{ role: 'user' }] });
        seen.push(read(text));
      }
      return answers.map(({ text }) => ({ score: read(text) ?? 0, errors: [] }));
    };
    const events = await collect({ ...made, method } as TrainSpec, grade);
    expect(eventsOf(events, 'failed')).toEqual([]);
    const values = new Set(seen);
    expect([values.delete(1), values.delete(2)]).toEqual([true, true]);
    expect([...values]).toEqual(values.has(null) ? [null] : []);
  });

  it('gives graders the calls of a model that can call tools, and refuses prompts with tools of one that cannot', async () => {
    const made = spec({ hyperparameters: { n_epochs: 1, max_completion_length: 24 } });
    const tool = { type: 'function', function: { name: 'find', parameters: { type: 'object' } } };
    const line = { messages: [{ role: 'user', content: 'find it' }], tools: [tool] };
    writeFileSync(made.trainingFile, `${JSON.stringify(line)}\n`.repeat(12));
    expect((await collect(made)).at(-1)).toMatchObject({
      type: 'failed',
      code: 'invalid_training_file',
      message: expect.stringContaining(
        "Line 1: the model's chat template refuses it: it does not support tools",
      ),
    });
    const modelDirectory = join(mkdtempSync(join(tmpdir(), 'anneal-tools-')), 'hermes');
    cpSync(made.modelDirectory, modelDirectory, { recursive: true });
    writeFileSync(join(modelDirectory, 'chat_template.jinja'), HERMES);
    const seen: unknown[] = [];
    const grade: GradeAnswers = async answers => {
      seen.push(...answers.map(({ item, toolCalls }) => [item, Array.isArray(toolCalls)]));
      return answers.map(({ toolCalls }) => ({ score: toolCalls.length, errors: [] }));
    };
    const events = await collect({ ...made, modelDirectory, validationFile: made.trainingFile }, grade);
    expect(eventsOf(events, 'failed')).toEqual([]);
    expect(seen[0]).toEqual([line, true]);
  });

  it('refuses a maximum for answers that leaves no room for a prompt', async () => {
    const events = await collect(spec({ hyperparameters: { max_length: 32, max_completion_length: 32 } }));
    expect(events.at(-1)).toMatchObject({
      type: 'failed',
      code: 'invalid_hyperparameters',
      param: 'method.reinforcement.hyperparameters.max_completion_length',
    });
  });
});
