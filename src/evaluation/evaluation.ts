// What a finished run is evaluated on. How, is the method's.
import type { Engine } from '../engine/program.ts';
import type { LoadedAdapter } from '../serving/adapter-stack.ts';

export interface Evaluation {
  readonly engine: Engine;
  /** Folder of the base model. */
  readonly modelDirectory: string;
  /** Of the adapter that the run went on from; null without one. */
  readonly adapterDirectory: string | null;
  /** What has been trained: a PEFT folder, or the folder of a whole model. */
  readonly fineTuned: { readonly kind: 'adapter' | 'full'; readonly directory: string };
  /** JSONL that has passed validation. */
  readonly validationFile: string;
  /** Texts were cut to so many tokens. */
  readonly maxLength: number;
  readonly signal: AbortSignal;
}

/** What is known of it before the run. */
export interface EvaluationRehearsal
  extends Pick<Evaluation, 'engine' | 'modelDirectory' | 'validationFile'> {
  /** Of the shape that will be trained; null where the whole model will be. */
  readonly adapter: LoadedAdapter | null;
}
