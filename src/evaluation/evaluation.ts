// What a finished run is evaluated on. How, is the method's.
import type { Engine } from '../engine/program.ts';

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
