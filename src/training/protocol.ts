// The protocol between worker and trainer process: one JSON spec goes in, events come out, commands may interrupt. The
// trainer knows folders only: no database, no object store, no HTTP.
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

/** Settings of each method besides hyperparameters. */
export interface MethodSettings {
  supervised: Record<never, never>;
  classification: LabelSettings;
  regression: Record<never, never>;
  embedding: {
    /** Similarities are divided by it; default 0.05. */
    temperature?: number | null;
  };
  dpo: Record<never, never>;
  reinforcement: {
    /** Used by the worker, which does the grading. */
    grader: Grader;
    /** Constrains the answers. */
    response_format?: { type: string; json_schema?: { schema?: unknown; strict?: boolean | null } } | null;
  };
}

export type MethodName = keyof MethodSettings;
export type Method = { [Name in MethodName]: { type: Name } & MethodSettings[Name] }[MethodName];

/** Everything that determines a run's results. Written as `spec.json` in the work directory. */
export interface TrainSpec {
  jobId: string;
  /** Hugging Face folder of the base model. */
  modelDirectory: string;
  /** The base model's name in adapters; default: the folder's name. */
  modelName?: string;
  /** PEFT folder to start from when the job fine-tunes a fine-tuned adapter; otherwise null. */
  adapterDirectory: string | null;
  trainingFile: string;
  validationFile: string | null;
  /** The trainer's own folder; survives until the worker removes it. */
  workDirectory: string;
  /** Where converted copies of base models are cached for later runs; default: the work directory. */
  cacheDirectory?: string;
  /** Folder of a `resume` checkpoint, or null for a fresh start. */
  resumeDirectory: string | null;
  /**
   * `layout` of an earlier attempt's `prepared` event, even if it reached no checkpoint: the same layout gives the same
   * bits.
   */
  layout?: Record<string, number | number[] | string> | null;
  method: Method;
  hyperparameters: RequestedHyperparameters;
  seed: number;
  engine: 'onnx' | 'tensorflow' | 'cpu';
  device: 'auto' | 'cpu' | 'cuda' | 'webgpu';
  /** Of matrix products; default float32. */
  precision?: 'float32' | 'bfloat16';
  threads: number;
  /** Seconds between checkpoints made only for resuming. */
  checkpointSeconds: number;
  memoryBudgetBytes: number | null;
}

/** Every hyperparameter with its final value. Stored on the job and in the manifest. */
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

/** The losses, and the objective's metric with the prefixes `train_`, `valid_` and `full_valid_`. */
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
      /** Examples dropped because truncation left nothing to train on; not counted in `examples`. */
      droppedExamples: number;
      /** Pairs of equal answers, which teach nothing; null for methods without pairs, and without a validation file. */
      equalAnswers: Record<FileKind, EqualAnswers | null>;
      /** Trained tokens over all epochs. */
      trainedTokens: number;
      /** The layout (micro-batches, row lengths, threads), kept so that a resumed run has the same. */
      layout: Record<string, number | number[] | string>;
    }
  | {
      type: 'step';
      metrics: StepMetrics;
      totalSteps: number;
      epoch: number;
      learningRate: number;
      gradientNorm: number;
      /** Trained tokens so far. */
      trainedTokens: number;
      seconds: number;
      /** Floating-point operations of the step's matrix products; 0 where the engine does not count them. */
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

/**
 * Worker to trainer. After `pause` the trainer writes a `resume` checkpoint, emits `stopped` and exits; after `cancel`
 * it emits `stopped` and exits.
 */
export type TrainerCommand = { type: 'pause' } | { type: 'cancel' };

// ---- grading: the trainer asks, the worker answers

/** A model's answer to the prompt of a line. */
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

/** Answered by `grades` with the same `question`, in the order of the answers. */
export type TrainerQuestion = { type: 'grade'; question: number; answers: SampledAnswer[] };
export type WorkerAnswer = { type: 'grades'; question: number; grades: GradedAnswer[] };
