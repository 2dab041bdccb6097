// The interface of a training objective: how lines become examples, the inputs and loss of a program, parameters
// trained besides the model's, and the evaluation. The loop, the optimizer and checkpoints depend on none of it.
import type { Tensor } from '@tensorflow/tfjs';
import type { Example, ExampleForm } from '../../data/example-form.ts';
import type { Tokenizer } from '../../data/tokenizer.ts';
import type { HostArrays, TensorSpec, Tensors } from '../../engine/program.ts';
import type { Evaluation, EvaluationRehearsal } from '../../evaluation/evaluation.ts';
import type { OutputMeaning } from '../../formats/classifier-config.ts';
import type { Adapter } from '../../formats/peft.ts';
import type { Layers, LinearLayer } from '../../models/architecture.ts';
import type { PackedSource } from '../../models/packed.ts';
import type { Model } from '../../models/registry.ts';
import type { AnswerForm } from '../../serving/answer-grammar.ts';
import type { MicroBatchPlan } from '../layout.ts';
import type { Measure } from '../measures.ts';
import type { MicroBatchShape } from '../programs.ts';
import type { GradeAnswers, Method, RequestedHyperparameters, ResolvedHyperparameters } from '../protocol.ts';
import type { Parameter } from '../state.ts';

export interface Objective {
  /** How a line becomes an example. */
  readonly form: ExampleForm;
  /** Name of the metric that `score` is: `mean_token_accuracy` makes `train_mean_token_accuracy`. */
  readonly measure: Measure;
  /** The objective's own hyperparameters, resolved. */
  readonly hyperparameters?: Partial<ResolvedHyperparameters>;
  /** Factor on the default learning rate of generation; default: 1. */
  readonly rate?: number;
  /** A task head, which is trained in addition; null: none. */
  readonly head: Head | null;
  /** Weights that the loss does not depend on: full fine-tuning neither trains nor saves them. */
  readonly unused: readonly string[];
  /** Inputs of a program besides parameters and dropout masks. */
  inputs(shape: MicroBatchShape): Record<string, TensorSpec>;
  /** Row length of a layer's input where it is not the shape's `length`. */
  readLength?(shape: MicroBatchShape, layer: LinearLayer): number;
  /** The inputs of one micro-batch. `examples` is the batch that the plan cuts; a plan without rows is all padding. */
  pack(plan: MicroBatchPlan, examples: readonly Example[]): HostArrays;
  loss(forward: Forward, inputs: Tensors): LossTensors;
  /**
   * Set if the loss compares the examples of a batch; `loss` is then the sum of their vectors times the gradients in
   * the input SLOPES.
   */
  readonly batch?: BatchLoss;
  /** Default batch size for this many examples; absent: that of generation. */
  batchSize?(examples: number): number;
  /**
   * The reference that the loss compares every example with: a value of the model at the start of the run, measured
   * once and appended to the example's values. [rows, length], read at the example's first token; with rollouts, at
   * every token of an answer. Absent: none.
   */
  reference?(forward: Forward, inputs: Tensors): Tensor;
  /** Set if the examples of a step are the model's own graded answers to the lines of the file. */
  readonly rollouts?: RolloutSettings;
  /** The evaluation report of a finished run on its validation file; null if there is nothing to report. */
  evaluate(evaluation: RunEvaluation): Promise<Record<string, unknown> | null>;
  /** Allocates and frees the peak memory of `evaluate`; absent: it takes less than a step. */
  rehearse?(rehearsal: EvaluationRehearsal): Promise<void>;
}

/** And what a method asks with whose answers are graded. */
export interface RunEvaluation extends Evaluation {
  /** The run's. */
  readonly seed: number;
  readonly grade: GradeAnswers;
  /** Where copies of the model lie. */
  readonly cacheDirectory: string;
}

export interface RolloutSettings {
  /** Answers to each prompt of a step. */
  readonly group: number;
  /** Most tokens of an answer. */
  readonly answerLength: number;
  readonly evalInterval: number;
  /** Answers to each validation prompt. */
  readonly evalSamples: number;
  /** Constraint on answers; null: any text. */
  readonly form: AnswerForm | null;
}

/** A task head: layers on top of a model. They are trained in full, whatever the tuning of the model. */
export interface Head {
  readonly parameters: readonly Parameter[];
  /** Modules that contain them, for PEFT's `modules_to_save`. */
  readonly modules: readonly string[];
  /** The transformers class of the model with this head. */
  readonly served: string;
  readonly meaning: OutputMeaning;
  /** Initial values by name: those of the model that the run starts from, or new ones from the seed. */
  firstValues(seed: number): Promise<Record<string, Float32Array>>;
}

/** The model of a run inside a program. */
export interface Forward {
  readonly model: Model;
  /** A weight of the model or the head by name, trained or frozen. */
  weight(name: string): Tensor;
  /**
   * Layers for a forward pass in which tokens see only their own segment, with adapters and dropout. segments [rows,
   * length] int32; `source` for a decoder.
   */
  layers(segments: Tensor, source?: PackedSource): Layers;
}

/** Scalars, sums over a micro-batch; gradients flow from `lossSum` alone. */
export interface LossTensors {
  readonly lossSum: Tensor;
  /** The metric is score / count. */
  readonly score: Tensor;
  readonly count: Tensor;
  /** What loss and gradients are divided by, summed over the whole batch; default: `count`. */
  readonly weight?: Tensor;
}

/** A loss over the vectors of all examples of a batch; see comparison.ts. */
export interface BatchLoss {
  /** Vectors per example. */
  readonly vectors: number;
  /** Vector slots of a micro-batch; those of an example are adjacent, in the order of the plan. */
  texts(shape: MicroBatchShape): number;
  /** [texts, hiddenSize] */
  vectorsOf(forward: Forward, inputs: Tensors): Tensor;
  /**
   * vectors [examples, vectors, hiddenSize]; present [examples, vectors] float32, 0 for an absent text, whose vector is
   * zero.
   */
  loss(vectors: Tensor, present: Tensor): LossTensors;
}

/** What an objective is made of, known before anything is decided. */
export interface ObjectiveInputs<M extends Method = Method> {
  readonly method: M;
  readonly hyperparameters: RequestedHyperparameters;
  readonly model: Model;
  readonly tokenizer: Tokenizer;
  /** The adapter that the run starts from, and its folder. */
  readonly adapter: Adapter | null;
  readonly adapterDirectory: string | null;
  readonly trainingFile: string;
}

/** Throws TrainingFailure or ModelError when the model, the file or the settings are unsuitable. */
export type OpenObjective<M extends Method = Method> = (inputs: ObjectiveInputs<M>) => Promise<Objective>;
