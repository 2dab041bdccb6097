// What a run would do, without taking a step: files read, hyperparameters resolved, steps counted, with the code of the
// run itself. estimate.ts measures what the run takes on given workers.
import type { DatasetCounts, Taking } from '../data/dataset.ts';
import { type Duplicates, duplicatesBetween, type Survey, surveyFile } from '../data/survey.ts';
import { type FileKind, toJobError } from '../data/validate.ts';
import { openEngine } from '../engine/engine.ts';
import { findLabels, MAX_LABELS } from '../evaluation/classification.ts';
import type { Model } from '../models/registry.ts';
import { estimateRun, type Impossible, type Machine, type RunEstimate } from './estimate.ts';
import { jobParam, TrainingFailure } from './failure.ts';
import { resolveHyperparameters, resolveMaxLength } from './hyperparameters.ts';
import { STATE_BYTES } from './layout-choice.ts';
import type { Objective } from './objectives/objective.ts';
import { totalSteps } from './order.ts';
import { dataFailure, emptyFailure, shapeOf } from './prepare.ts';
import type { Method, ResolvedHyperparameters, TrainSpec } from './protocol.ts';
import { openStart, type Start } from './start.ts';
import { stateLayoutOf, tuningOf } from './trainable.ts';

export interface DryRunSpec
  extends Pick<
    TrainSpec,
    | 'modelDirectory'
    | 'adapterDirectory'
    | 'trainingFile'
    | 'validationFile'
    | 'method'
    | 'hyperparameters'
    | 'seed'
    | 'engine'
    | 'threads'
    | 'workDirectory'
    | 'cacheDirectory'
  > {
  /** As the job's error would name them. */
  trainingFileId: string;
  validationFileId: string | null;
  /** Workers that may take the run. */
  machines: Machine[];
}

interface Failure {
  code: string;
  message: string;
  param: string | null;
}

export interface DryRun {
  /** The error the job would fail with; null if there is none that can be known in advance. */
  error: Failure | null;
  training: FileSurvey;
  validation: FileSurvey | null;
  /** Lines of the validation file that also are in the training file; null without a validation file. */
  duplicatesBetween: Duplicates | null;
  /** Null if they cannot be resolved; then what depends on them is null too. */
  hyperparameters: ResolvedHyperparameters | null;
  totalSteps: number | null;
  /** Tokens with a loss over all epochs; null where the model generates them itself. */
  trainedTokens: number | null;
  trainedParameters: number | null;
  /** Bytes of trained parameters, gradients and optimizer state. */
  stateBytes: number | null;
  /** One per machine of the spec; none if the run would fail earlier. */
  estimates: (RunEstimate | Impossible)[];
  /** Why there are none although machines are given; otherwise null. */
  unmeasured: string | null;
}

export type FileSurvey = Omit<Survey, 'digests' | 'lengths'>;

/** The child process's answer. */
export type DryRunAnswer = { type: 'done'; report: DryRun } | { type: 'invalid_model'; message: string };

/** Throws ModelError for a folder that is not a model. */
export async function dryRun(spec: DryRunSpec): Promise<DryRun> {
  const start = await openStart(spec);
  const { model, adapter, tokenizer, objective } = start;
  const { attempt, plain } = failuresOf(spec.method);
  const length = attempt(() => resolveMaxLength(spec.hyperparameters, model));
  const maxLength = length.value ?? resolveMaxLength({}, model);
  const { form } = objective;
  const { training, validation } = await surveyFiles(spec, { form, tokenizer, maxLength });
  const resolved =
    training.counts.count === 0
      ? { value: null, failure: null }
      : attempt(() => ({
          ...resolveHyperparameters(spec.hyperparameters, {
            model,
            examples: training.counts.count,
            start: adapter && shapeOf(adapter, model),
            rate: objective.rate,
            batchSize: objective.batchSize,
          }),
          ...objective.hyperparameters,
        }));
  const unusable = (survey: Survey, kind: FileKind) => {
    const failure = uselessness(survey, maxLength, kind);
    return failure && plain(failure);
  };
  const error =
    invalidFile(training, spec.trainingFileId, 'training_file') ??
    (validation && invalidFile(validation, spec.validationFileId!, 'validation_file')) ??
    length.failure ??
    unusable(training, 'training') ??
    (validation && unusable(validation, 'validation')) ??
    resolved.failure;
  return {
    error,
    training: toReport(training),
    validation: validation && toReport(validation),
    duplicatesBetween: validation && duplicatesBetween(training, validation),
    hyperparameters: resolved.value,
    ...(await estimates(spec, start, error === null ? resolved.value : null, { training, validation })),
    ...consequences({ model, objective, chosen: resolved.value, counts: training.counts, seed: spec.seed }),
  };
}

async function surveyFiles({ trainingFile, validationFile, method }: DryRunSpec, taking: Taking) {
  const options = { ...taking, method: method.type, settings: method, mostAnswers: MAX_LABELS };
  const training = await surveyFile({ ...options, file: trainingFile, kind: 'training' });
  const validation = validationFile
    ? await surveyFile({ ...options, file: validationFile, kind: 'validation', training })
    : null;
  return { training, validation };
}

interface Attempt<T> {
  value: T | null;
  failure: Failure | null;
}

/** Converts failures that a user can fix to the job's error. */
function failuresOf(method: Method) {
  const plain = ({ code, message, param }: TrainingFailure): Failure => ({
    code,
    message,
    param: jobParam(param, method.type),
  });
  const attempt = <T>(work: () => T): Attempt<T> => {
    try {
      return { value: work(), failure: null };
    } catch (error) {
      if (error instanceof TrainingFailure) return { value: null, failure: plain(error) };
      throw error;
    }
  };
  return { attempt, plain };
}

/** The error of the job's file validation. */
const invalidFile = ({ validation }: Survey, id: string, param: 'training_file' | 'validation_file') =>
  toJobError(validation, id, param, `\`${param}.errors\``);

function uselessness(
  { counts, refusals }: Survey,
  maxLength: number,
  kind: FileKind,
): TrainingFailure | null {
  if (refusals[0]) return dataFailure(refusals[0], kind);
  return counts.count > 0 ? null : emptyFailure(counts, maxLength, kind);
}

async function estimates(
  spec: DryRunSpec,
  start: Start,
  hyperparameters: ResolvedHyperparameters | null,
  files: { training: Survey; validation: Survey | null },
): Promise<Pick<DryRun, 'estimates' | 'unmeasured'>> {
  const { machines, engine: name, threads } = spec;
  if (machines.length === 0 || hyperparameters === null) return { estimates: [], unmeasured: null };
  const engine = await openEngine({ engine: name, device: 'cpu', threads });
  try {
    const found = await estimateRun({ ...start, ...files, spec, engine, hyperparameters, machines });
    return { estimates: found, unmeasured: null };
  } catch (error) {
    if (error instanceof TrainingFailure) return { estimates: [], unmeasured: error.message };
    throw error;
  }
}

function toReport({ digests: _digests, lengths: _lengths, answers, ...rest }: Survey): FileSurvey {
  return { ...rest, answers: answers && isClassification(answers) ? answers : null };
}

/** The same rule by which the evaluation counts by class. */
const isClassification = (answers: NonNullable<Survey['answers']>) =>
  findLabels(answers.flatMap(({ answer, count }) => new Array<string>(count).fill(answer))) !== null;

interface Resolved {
  model: Model;
  objective: Objective;
  chosen: ResolvedHyperparameters | null;
  counts: DatasetCounts;
  seed: number;
}

function consequences({
  model,
  objective,
  chosen,
  counts,
  seed,
}: Resolved): Pick<DryRun, 'totalSteps' | 'trainedTokens' | 'trainedParameters' | 'stateBytes'> {
  if (chosen === null)
    return { totalSteps: null, trainedTokens: null, trainedParameters: null, stateBytes: null };
  const { size } = stateLayoutOf(model, tuningOf(model, chosen), objective);
  const plan = { examples: counts.count, batchSize: chosen.batch_size, epochs: chosen.n_epochs, seed };
  return {
    totalSteps: totalSteps(plan),
    trainedTokens: objective.rollouts ? null : counts.trainedTokens * chosen.n_epochs,
    trainedParameters: size,
    stateBytes: size * STATE_BYTES,
  };
}
