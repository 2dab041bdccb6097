// The policy: generates answers with the current parameters of the run. rollouts.ts grades them and trains on them.
import type { LoadedAdapter } from '../serving/adapter-stack.ts';
import { type Answer, type AnswererOptions, openAnswerer, type Question } from './answerer.ts';
import { TrainingFailure } from './failure.ts';
import type { TrainedModel } from './programs.ts';
import { viewsOf } from './state.ts';
import { type LoraTuning, loraNames } from './trainable.ts';

export interface Policy {
  /** Answers all questions at once, so that they share the model's steps. Rejects with the signal's reason. */
  answer(questions: readonly Question[], signal: AbortSignal): Promise<Answer[]>;
  close(): Promise<void>;
}

export interface PolicyOptions extends Omit<AnswererOptions, 'model'> {
  trained: TrainedModel;
  /** The current parameters of the run. */
  readParameters(): Promise<Float32Array>;
}

/** Throws TrainingFailure for an unsupported response format, and for full fine-tuning. */
export async function openPolicy({ trained, readParameters, ...options }: PolicyOptions): Promise<Policy> {
  const tuning = adapterOnly(trained);
  const answerer = await openAnswerer({ ...options, model: trained.model });
  return {
    answer: async (questions, signal) =>
      answerer.answer(questions, adapterOf(trained, tuning, await readParameters()), signal),
    close: () => answerer.close(),
  };
}

function adapterOnly({ tuning }: TrainedModel): LoraTuning {
  if (tuning.kind !== 'full') return tuning;
  const message = "reinforcement trains adapters only: adapter 'full' is not supported";
  throw new TrainingFailure('invalid_hyperparameters', '.hyperparameters.adapter', message);
}

/** Copies the parameters, which change while a generator may still hold them. */
export function adapterOf(
  { state }: Pick<TrainedModel, 'state'>,
  tuning: LoraTuning,
  parameters: Float32Array,
): LoadedAdapter {
  const views = viewsOf(parameters, state);
  const scale = tuning.alpha / tuning.rank;
  const layers = tuning.layers.map(layer => {
    const { a, b } = loraNames(layer);
    return [layer.name, { a: views[a]!.slice(), b: views[b]!.map(x => x * scale) }] as const;
  });
  return { id: 'policy', rank: tuning.rank, bytes: 0, layers: Object.fromEntries(layers) };
}
