// What the worker and the trainer process say to each other. The trainer knows folders and numbers only:
// no database, no object store, no HTTP. One JSON spec goes in, events come out, commands may interrupt.
import type { ToolCall } from '../data/conversation.ts';
import type { EqualAnswers } from '../data/dataset.ts';
import type { LabelSettings } from '../data/labels.ts';
import type { FileKind } from '../data/validate.ts';
import type { Grader, GraderError } from '../evaluation/graders/grader.ts';
import type { Quantization } from '../formats/quantization.ts';

export interface RequestedHyperparameters {
  n_epochs?: number | 'auto';
  batch_size?: number | 'auto';
  learning_rate_multiplier?: number | 'auto';
  // Anneal's own, all optional
  adapter?: 'lora' | 'full';
  rank?: number;
  alpha?: number;
  dropout?: number;
  target_modules?: string[] | 'all-linear';
  learning_rate?: number;
  weight_decay?: number;
  warmup_ratio?: number;
  schedule?: 'cosine' | 'linear' | 'constant';
  max_grad_norm?: number;
  max_length?: number;
  quantization?: 'none' | Quantization;
  gradient_checkpointing?: boolean;
  /** Of dpo. */
  beta?: number | 'auto';
  // Of reinforcement
  compute_multiplier?: number | 'auto';
  eval_interval?: number | 'auto';
  eval_samples?: number | 'auto';
  reasoning_effort?: 'default';
  kl_coefficient?: number;
  max_completion_length?: number;
}

/** What each method is asked for besides hyperparameters. */
export interface MethodSettings {
  supervised: Record<never, never>;
  classification: LabelSettings;
  regression: Record<never, never>;
  embedding: {
    /** Similarities are divided by it; 0.05. */
    temperature?: number | null;
  };
  dpo: Record<never, never>;
  reinforcement: {
    /** The worker's: it is the worker that grades. */
    grader: Grader;
    /** What answers are held to. */
    response_format?: { type: string; json_schema?: { schema?: unknown; strict?: boolean | null } } | null;
  };
}

export type MethodName = keyof MethodSettings;
export type Method = { [Name in MethodName]: { type: Name } & MethodSettings[Name] }[MethodName];

/** What a run is: everything that decides its numbers. Written as `spec.json` in the work directory. */
export interface TrainSpec {
  jobId: string;
  /** Hugging Face folder of the base model. */
  modelDirectory: string;
  /** What adapters say that they were trained on; the folder's name where absent. */
  modelName?: string;
  /** PEFT folder to go on from, when the job fine-tunes a fine-tuned adapter; null otherwise. */
  adapterDirectory: string | null;
  trainingFile: string;
  validationFile: string | null;
  /** The trainer's own folder; survives until the worker removes it. */
  workDirectory: string;
  /** Where copies of base models in other types are kept for later runs; in the work directory where absent. */
  cacheDirectory?: string;
  /** Folder of a `resume` checkpoint, or null for a fresh start. */
  resumeDirectory: string | null;
  /** `layout` of what an earlier attempt `prepared`, whether it reached a checkpoint or not: laid out alike, the losses are the same bits. */
  layout?: Record<string, number | number[] | string> | null;
  method: Method;
  hyperparameters: RequestedHyperparameters;
  seed: number;
  engine: 'onnx' | 'tensorflow' | 'cpu';
  device: 'auto' | 'cpu' | 'cuda' | 'webgpu';
  /** Of matrix products; float32 where absent. */
  precision?: 'float32' | 'bfloat16';
  threads: number;
  /** Seconds between checkpoints made only for resuming. */
  checkpointSeconds: number;
  memoryBudgetBytes: number | null;
}

/** Every hyperparameter with its final number. Goes onto the job and into the manifest. */
export interface ResolvedHyperparameters {
  n_epochs: number;
  batch_size: number;
  learning_rate_multiplier: number;
  adapter: 'lora' | 'full';
  rank: number;
  alpha: number;
  dropout: number;
  target_modules: string[];
  learning_rate: number;
  weight_decay: number;
  warmup_ratio: number;
  schedule: 'cosine' | 'linear' | 'constant';
  max_grad_norm: number;
  max_length: number;
  quantization: 'none' | Quantization;
  gradient_checkpointing: boolean;
  beta?: number;
  compute_multiplier?: number;
  eval_interval?: number;
  eval_samples?: number;
  reasoning_effort?: 'default';
  kl_coefficient?: number;
  max_completion_length?: number;
}

/** Besides the losses those of the objective's measure: `train_mean_token_accuracy`, and `valid_` and `full_valid_` of the same. */
export interface StepMetrics {
  step: number;
  train_loss: number;
  valid_loss?: number;
  full_valid_loss?: number;
  [measure: string]: number | undefined;
}

export type TrainerEvent =
  | {
      type: 'prepared';
      hyperparameters: ResolvedHyperparameters;
      totalSteps: number;
      examples: number;
      validationExamples: number;
      truncatedExamples: number;
      /** Of those, left out because the cut left nothing to learn; not in the numbers of examples. */
      droppedExamples: number;
      /** Pairs of answers that teach nothing; null for methods that compare none, and without a validation file. */
      equalAnswers: Record<FileKind, EqualAnswers | null>;
      /** Tokens that count, all epochs. */
      trainedTokens: number;
      /** How the run was laid out (micro-batch, row lengths, threads); kept so that a resumed run is laid out alike. */
      layout: Record<string, number | number[] | string>;
    }
  | {
      type: 'step';
      metrics: StepMetrics;
      totalSteps: number;
      epoch: number;
      learningRate: number;
      gradientNorm: number;
      /** Tokens that counted so far. */
      trainedTokens: number;
      seconds: number;
      /** Of the matrix products of its micro-batches; 0 where they are not counted. */
      flops: number;
      remainingSeconds: number;
    }
  | {
      /** `directory` is complete and will not change. `model` directories hold an adapter (PEFT) or a model (Hugging Face). */
      type: 'checkpoint';
      kind: 'resume' | 'model';
      step: number;
      epoch: number;
      directory: string;
      metrics: StepMetrics;
    }
  | { type: 'progress'; message: string; level?: 'info' | 'warn' }
  | { type: 'evaluation'; report: Record<string, unknown> }
  | {
      type: 'finished';
      /** The step whose `model` checkpoint is the result (best by validation, the last without a validation file). */
      bestStep: number;
      trainedTokens: number;
      manifest: Record<string, unknown>;
    }
  | { type: 'stopped'; reason: 'cancel' | 'pause'; step: number }
  | { type: 'failed'; code: string; param: string | null; message: string };

/** Worker to trainer. After `pause` the trainer writes a `resume` checkpoint, says `stopped` and ends; after `cancel` it says `stopped` and ends. */
export type TrainerCommand = { type: 'pause' } | { type: 'cancel' };

// ---- grading: the trainer asks, the worker answers

/** What a model has said to the prompt of a line. */
export interface SampledAnswer {
  /** The line. */
  item: unknown;
  text: string;
  toolCalls: ToolCall[];
}

export interface GradedAnswer {
  score: number;
  errors: GraderError[];
}

export type GradeAnswers = (answers: SampledAnswer[]) => Promise<GradedAnswer[]>;

/** Answered by the `grades` of the same `question`, in the order of the answers. */
export type TrainerQuestion = { type: 'grade'; question: number; answers: SampledAnswer[] };
export type WorkerAnswer = { type: 'grades'; question: number; grades: GradedAnswer[] };
