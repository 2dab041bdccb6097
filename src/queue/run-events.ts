// The events of a run, in OpenAI's words, each with its deduplication key.
import type { NewEvent } from '../store/events.ts';
import type { Prepared, Step } from '../store/runs.ts';

export const started: NewEvent = { message: 'Fine-tuning job started', once: 'started' };

export function validating(trainingFile: string, validationFile: string | null): NewEvent {
  const files = validationFile ? `${trainingFile} and validation file: ${validationFile}` : trainingFile;
  return { message: `Validating training file: ${files}`, once: 'validating' };
}

export const validated: NewEvent = {
  message: 'Files validated, moving job to queued state',
  once: 'validated',
};

/** `Step 3/30: training loss=1.23, validation loss=1.30, full validation loss=1.28`. */
export function step({ metrics, totalSteps }: Step): NewEvent {
  const losses = [
    ['training loss', metrics.train_loss],
    ['validation loss', metrics.valid_loss],
    ['full validation loss', metrics.full_valid_loss],
    ['training reward', metrics.train_reward_mean],
    ['validation reward', metrics.valid_reward_mean],
    ['full validation reward', metrics.full_valid_reward_mean],
  ] as const;
  const shown = losses.filter(([, loss]) => loss !== undefined);
  return {
    message: `Step ${metrics.step}/${totalSteps}: ${shown.map(([name, loss]) => `${name}=${loss!.toFixed(2)}`).join(', ')}`,
    type: 'metrics',
    data: { ...metrics, total_steps: totalSteps },
    once: `step:${metrics.step}`,
  };
}

/** Null when no example was truncated. */
export function truncated(prepared: Prepared): NewEvent | null {
  const { truncatedExamples: cut, droppedExamples: dropped, hyperparameters } = prepared;
  if (cut === 0) return null;
  const { max_length: limit, max_completion_length: answer } = hyperparameters;
  const all = prepared.examples + prepared.validationExamples + dropped;
  const leftOut =
    dropped === 0 ? '' : `; ${dropped} of them were dropped, because nothing to train on remained`;
  return {
    level: 'warn',
    message:
      answer === undefined
        ? `${cut} of ${all} examples had more than ${limit} tokens and were cut from the end${leftOut}`
        : `${cut} of ${all} prompts left no room for an answer of ${answer} tokens within ${limit} and lost their beginning`,
    data: { truncated_examples: cut, dropped_examples: dropped, examples: all, max_length: limit },
    once: 'truncated',
  };
}

/** For each file that has pairs of identical answers. */
export function equalAnswers({ equalAnswers: found, ...prepared }: Prepared): NewEvent[] {
  const files = [
    { kind: 'training', examples: prepared.examples, worth: 'teach nothing' },
    { kind: 'validation', examples: prepared.validationExamples, worth: 'measure nothing' },
  ] as const;
  return files.flatMap(({ kind, examples, worth }) => {
    const { count = 0, lines = [] } = found[kind] ?? {};
    if (count === 0) return [];
    const named = `${lines.slice(0, SHOWN_LINES).join(', ')}${count > SHOWN_LINES ? ', ...' : ''}`;
    return {
      level: 'warn',
      message: `${count} of ${examples} pairs of the ${kind} file have two identical answers, which ${worth}: lines ${named}`,
      data: { param: `${kind}_file`, equal_answers: count, lines, examples },
      once: `equal answers:${kind}`,
    };
  });
}

/** The event's data lists more. */
const SHOWN_LINES = 10;

export function checkpointCreated(stepNumber: number): NewEvent {
  return { message: `Checkpoint created at step ${stepNumber}`, once: `checkpoint:${stepNumber}` };
}

export function evaluated(report: Record<string, unknown>): NewEvent {
  const beside = report.base === null ? 'a baseline' : 'the base model';
  return {
    message: `Evaluation of ${beside} and the fine-tuned model completed`,
    data: report,
    once: 'evaluation',
  };
}

export function progress({ message, level = 'info' }: Pick<NewEvent, 'message' | 'level'>): NewEvent {
  return { level, message, once: `progress:${message}` };
}

export function modelCreated(model: string): NewEvent {
  return { message: `New fine-tuned model created: ${model}`, once: 'model' };
}

export const completed: NewEvent = { message: 'The job has successfully completed', once: 'completed' };

export function failed(message: string): NewEvent {
  return { level: 'error', message, once: 'failed' };
}

export function interrupted(attempt: number, why: string, step: number | null): NewEvent {
  const from = step === null ? 'from the start' : `from step ${step}`;
  return { level: 'warn', message: `${why}; the job continues ${from}`, once: `interrupted:${attempt}` };
}
