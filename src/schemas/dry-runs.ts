// API schemas of dry runs: what a job would do, without creating it.
import { type Static, Type } from 'typebox';
import type { Duplicates } from '../data/survey.ts';
import type { NewJob } from '../store/jobs.ts';
import type { Runner } from '../store/runners.ts';
import type { DryRun, FileSurvey } from '../training/dry-run.ts';
import type { Impossible, RunEstimate } from '../training/estimate.ts';
import { memoryToUse } from '../training/memory.ts';

const SHOWN_ERRORS = 10_000;

const nullableInteger = (description: string) => Type.Union([Type.Integer(), Type.Null()], { description });
const count = (description: string) => Type.Integer({ description });

export const DuplicateLines = Type.Object(
  {
    count: count('Lines that repeat an earlier one.'),
    groups: Type.Array(Type.Array(Type.Integer()), {
      description:
        'Line numbers of equal lines, at most 100 groups. Between files: a line of the training file, then one of the validation file.',
    }),
  },
  { $id: 'DuplicateLines', description: 'Lines with equal tokens and loss mask.' },
);

export const DryRunFile = Type.Object(
  {
    file_id: Type.String(),
    format: Type.Union([Type.String(), Type.Null()], {
      description:
        '`chat`, `completion`, `preference`, `classification`, `regression`, `pairs` or `prompt`; null if no line shows one.',
    }),
    lines: count('Lines that are not blank.'),
    bad_lines: count('Lines with mistakes.'),
    error_count: count('Number of mistakes; a line can have several.'),
    errors: Type.Array(Type.Object({ line: Type.Integer(), path: Type.String(), message: Type.String() }), {
      description: 'The first 10,000 mistakes.',
    }),
    examples: count('Examples that are trained on.'),
    dropped_examples: count('Examples with no trained token, or none left after truncation.'),
    truncated_examples: count('Examples truncated to `max_length`.'),
    longest_example: count('Tokens of the longest example, after truncation.'),
    tokens: count('Tokens in one pass over the file.'),
    trained_tokens: count('Tokens with a loss.'),
    untrained_tokens: count('Tokens without a loss: prompts, and messages with `weight` 0.'),
    bos: Type.Object(
      {
        id: nullableInteger('Token id; null if the model has none.'),
        tokens: count('Number of occurrences.'),
        examples_with_several: count('Examples with more than one.'),
      },
      { description: 'The token at the start of a text.' },
    ),
    eos: Type.Object(
      {
        ids: Type.Array(Type.Integer(), { description: 'Tokens at which generation stops.' }),
        tokens: count('Number of occurrences.'),
        trained_tokens: count('Occurrences with a loss.'),
        examples_without: count('Examples without a trained one: they do not teach the model to stop.'),
      },
      { description: 'The tokens that end an answer.' },
    ),
    duplicates: Type.Ref('DuplicateLines'),
    equal_answers: Type.Union(
      [
        Type.Object({
          count: count('Lines whose two answers are identical after truncation.'),
          lines: Type.Array(Type.Integer(), { description: 'The first 100 of them.' }),
        }),
        Type.Null(),
      ],
      { description: 'Pairs with identical answers; null for methods other than `dpo`.' },
    ),
    answers: Type.Union(
      [Type.Array(Type.Object({ answer: Type.String(), count: Type.Integer() })), Type.Null()],
      { description: 'Occurrences of each answer, if there are few; null for free text.' },
    ),
    samples: Type.Array(
      Type.Object({
        line: Type.Integer(),
        length: count('Tokens of the example; the first 4096 are shown.'),
        tokens: Type.Array(
          Type.Object({
            id: Type.Integer(),
            text: Type.String({ description: 'Text of the token; U+FFFD for a part of a character.' }),
            trained: Type.Boolean({ description: 'Whether the token has a loss.' }),
          }),
        ),
      }),
      { description: 'The first three examples, token by token.' },
    ),
  },
  { $id: 'DryRunFile', description: 'Content of a file, as the job would use it.' },
);

const nullableNumber = (description: string) => Type.Union([Type.Number(), Type.Null()], { description });

export const DryRunRunner = Type.Object(
  {
    id: Type.String(),
    host: Type.String(),
    device: Type.String({ description: '`cpu`, `cuda` or `webgpu`.' }),
    available_memory_bytes: count('Memory that the job may use.'),
    estimated_memory_bytes: nullableInteger(
      'Peak memory of the trainer, including the evaluation at the end.',
    ),
    estimated_seconds: nullableNumber('Time of all steps.'),
    seconds_from: Type.Union([Type.Literal('earlier_runs'), Type.Literal('matrix_products'), Type.Null()], {
      description:
        "`earlier_runs`: at the speed of earlier runs on such a machine with the same base model and kind of adapter. `matrix_products`: at the worker's speed of plain matrix products, which no run reaches.",
    }),
    micro_batch_rows: Type.Array(Type.Integer(), {
      description: 'Rows of each shape of micro-batch.',
    }),
    row_lengths: Type.Array(Type.Integer(), { description: 'Tokens per row of each shape.' }),
    error: Type.Union([Type.String(), Type.Null()], { description: 'Why the job cannot run there.' }),
  },
  { $id: 'DryRunRunner', description: 'What the job would take on a live worker.' },
);

export const FineTuningDryRun = Type.Object(
  {
    object: Type.Literal('fine_tuning.job.dry_run'),
    model: Type.String(),
    valid: Type.Boolean({ description: 'Whether the job would reach training.' }),
    error: Type.Union(
      [
        Type.Object({
          code: Type.String(),
          message: Type.String(),
          param: Type.Union([Type.String(), Type.Null()]),
        }),
        Type.Null(),
      ],
      { description: 'The error that the job would fail with.' },
    ),
    training_file: Type.Ref('DryRunFile'),
    validation_file: Type.Union([Type.Ref('DryRunFile'), Type.Null()]),
    duplicates_between_files: Type.Union([Type.Ref('DuplicateLines'), Type.Null()], {
      description:
        'Lines of the validation file that are in the training file; null without a validation file.',
    }),
    hyperparameters: Type.Union([Type.Record(Type.String(), Type.Unknown()), Type.Null()], {
      description: 'Every hyperparameter with its resolved value; null if they cannot be resolved.',
    }),
    n_steps: nullableInteger('Steps of the whole job.'),
    trained_tokens: nullableInteger('Tokens with a loss, over all epochs.'),
    trained_parameters: nullableInteger('Number of trained parameters.'),
    state_bytes: nullableInteger('Memory of the trained parameters, their gradients and the optimizer.'),
    estimated_memory_bytes: nullableInteger(
      'Peak memory of the trainer on the worker that would finish first, including the evaluation, without the pages of the model’s files. Null: `no_estimate` says why.',
    ),
    estimated_seconds: Type.Union([Type.Number(), Type.Null()], {
      description:
        'Time of all steps on the worker that would finish first, without waiting, start-up and the evaluation. Null: `no_estimate` says why.',
    }),
    no_estimate: Type.Union([Type.String(), Type.Null()], {
      description: 'Why time or memory is null; null if both are known.',
    }),
    runners: Type.Array(Type.Ref('DryRunRunner'), {
      description: 'The live workers, each with what the job would take there.',
    }),
    estimated_cost: Type.Union(
      [Type.Object({ value: Type.Number(), currency: Type.String() }), Type.Null()],
      {
        description:
          'Cost of the trained tokens by `ANNEAL_PRICES`; null if the model has no price for training.',
      },
    ),
  },
  { $id: 'FineTuningDryRun', description: 'What a job would do. Nothing was created.' },
);

/** A worker and the time and memory of the run there; null where unknown. */
export interface RunnerEstimate {
  runner: Runner;
  estimate: RunEstimate | Impossible | null;
  seconds: number | null;
  secondsFrom: 'earlier_runs' | 'matrix_products' | null;
}

export interface DryRunOnWire {
  job: NewJob;
  report: DryRun;
  estimates: RunnerEstimate[];
  estimatedCost: { value: number; currency: string } | null;
}

export function dryRunToWire({ job, report, estimates, estimatedCost }: DryRunOnWire) {
  const { validation, duplicatesBetween } = report;
  const runners = estimates.map(runnerToWire);
  const best = soonest(runners);
  return {
    object: 'fine_tuning.job.dry_run' as const,
    model: job.model,
    valid: report.error === null,
    error: report.error,
    training_file: fileToWire(job.trainingFile, report.training),
    validation_file: validation && fileToWire(job.validationFile!, validation),
    duplicates_between_files: duplicatesBetween && duplicatesToWire(duplicatesBetween),
    hyperparameters: report.hyperparameters,
    n_steps: report.totalSteps,
    trained_tokens: report.trainedTokens,
    trained_parameters: report.trainedParameters,
    state_bytes: report.stateBytes,
    estimated_memory_bytes: best?.estimated_memory_bytes ?? null,
    estimated_seconds: best?.estimated_seconds ?? null,
    no_estimate: best?.estimated_seconds != null ? null : whyNone(report, runners),
    runners,
    estimated_cost: estimatedCost,
  };
}

type RunnerOnWire = Static<typeof DryRunRunner>;

function runnerToWire({ runner, estimate, seconds, secondsFrom }: RunnerEstimate): RunnerOnWire {
  const { id, host, device, freeBytes, memoryBudgetBytes } = runner;
  const possible = estimate && 'shapes' in estimate ? estimate : null;
  return {
    id,
    host,
    device,
    available_memory_bytes: Math.floor(memoryToUse(memoryBudgetBytes, freeBytes)),
    estimated_memory_bytes: possible?.memoryBytes ?? null,
    estimated_seconds: seconds === null ? null : Number(seconds.toPrecision(3)),
    seconds_from: secondsFrom,
    micro_batch_rows: possible?.shapes.map(({ rows }) => rows) ?? [],
    row_lengths: possible?.shapes.map(({ length }) => length) ?? [],
    error: estimate && 'failure' in estimate ? estimate.failure : null,
  };
}

/** Of those on which the run can be. */
const soonest = (runners: RunnerOnWire[]): RunnerOnWire | undefined => {
  const secondsOf = ({ estimated_seconds: seconds }: RunnerOnWire) => seconds ?? Number.POSITIVE_INFINITY;
  return runners
    .filter(runner => runner.estimated_memory_bytes !== null)
    .toSorted((a, b) => secondsOf(a) - secondsOf(b))[0];
};

function whyNone({ error, unmeasured, trainedTokens }: DryRun, runners: RunnerOnWire[]): string {
  if (error) return 'The job would not get as far as training.';
  if (runners.length === 0) return 'No worker is alive.';
  if (unmeasured) return unmeasured;
  if (runners.every(runner => runner.error !== null))
    return 'No worker that is alive can run it: see `runners`.';
  if (trainedTokens === null) return 'How long the answers of the model will be is not known before.';
  return 'The workers have not measured their speed yet; it takes some seconds after their start.';
}

function fileToWire(id: string, survey: FileSurvey) {
  const { validation, refusals, refused, counts, control } = survey;
  const refusedLines = refusals.map(({ line, message }) => ({ line, path: '', message }));
  return {
    file_id: id,
    format: validation.format,
    lines: validation.examples,
    bad_lines: validation.badLines + refused,
    error_count: validation.errorCount + refused,
    errors: [...validation.errors, ...refusedLines].sort((a, b) => a.line - b.line).slice(0, SHOWN_ERRORS),
    examples: counts.count,
    dropped_examples: counts.dropped,
    truncated_examples: counts.truncated,
    longest_example: survey.longest,
    tokens: counts.tokens,
    trained_tokens: counts.trainedTokens,
    untrained_tokens: counts.tokens - counts.trainedTokens,
    bos: {
      id: control.bosId,
      tokens: control.bosTokens,
      examples_with_several: control.examplesWithSeveralBos,
    },
    eos: {
      ids: control.eosIds,
      tokens: control.eosTokens,
      trained_tokens: control.trainedEosTokens,
      examples_without: control.examplesWithoutTrainedEos,
    },
    duplicates: duplicatesToWire(survey.duplicates),
    equal_answers: counts.equalAnswers,
    answers: survey.answers,
    samples: survey.samples,
  };
}

const duplicatesToWire = ({ count, groups }: Duplicates) => ({ count, groups });
