// Input of the evaluation after a training run. The evaluation itself depends on the method.
import type { Engine } from '../engine/program.ts';
import type { LoadedAdapter } from '../serving/adapter-stack.ts';

export interface Evaluation {
  readonly engine: Engine;
  /** Folder of the base model. */
  readonly modelDirectory: string;
  /** Folder of the adapter that training started from; null without one. */
  readonly adapterDirectory: string | null;
  /** The result of training: a PEFT folder, or the folder of a full model. */
  readonly fineTuned: { readonly kind: 'adapter' | 'full'; readonly directory: string };
  /** JSONL that has passed validation. */
  readonly validationFile: string;
  /** Maximum tokens of an example in training. */
  readonly maxLength: number;
  readonly signal: AbortSignal;
}

/** What is known before training. */
export interface EvaluationRehearsal
  extends Pick<Evaluation, 'engine' | 'modelDirectory' | 'validationFile'> {
  /** Shape of the adapter that will be trained; null for full fine-tuning. */
  readonly adapter: LoadedAdapter | null;
}
