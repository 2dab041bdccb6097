// What a run learns, apart from how it is taken through: what lines become, what a program is fed with, what its loss is, which
// numbers are trained besides the model's, how the result is measured. The loop, the optimizer and checkpoints know none of it.
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
  /** What a line becomes. */
  readonly form: ExampleForm;
  /** What `score` is, as metrics spell it: `mean_token_accuracy` makes `train_mean_token_accuracy`. */
  readonly measure: Measure;
  /** Hyperparameters of the objective's own, with their numbers. */
  readonly hyperparameters?: Partial<ResolvedHyperparameters>;
  /** The learning rate where none is asked for, in parts of generation's; 1 where absent. */
  readonly rate?: number;
  /** Trained besides what the tuning trains; null: nothing. */
  readonly head: Head | null;
  /** Weights of the model that the loss does not depend on: full fine-tuning leaves them out, and so does what it saves. */
  readonly unused: readonly string[];
  /** What a program takes besides parameters and masks. */
  inputs(shape: MicroBatchShape): Record<string, TensorSpec>;
  /** Tokens of a row that a layer reads, where they are not the shape's `length`. */
  readLength?(shape: MicroBatchShape, layer: LinearLayer): number;
  /** One micro-batch of these inputs. `examples` is the batch that the plan cuts; a plan without rows is all padding. */
  pack(plan: MicroBatchPlan, examples: readonly Example[]): HostArrays;
  loss(forward: Forward, inputs: Tensors): LossTensors;
  /** Where the loss compares the examples of a batch with each other; `loss` is then the sum of their vectors times their slopes (an input). */
  readonly batch?: BatchLoss;
  /** Examples of a step where no number is asked for, of so many in all; absent: as generation. */
  batchSize?(examples: number): number;
  /**
   * What the loss compares every example with: a number of the model as it is at the start, measured once and put behind the example's
   * values. [rows, length], read at the example's first place. Absent: nothing. Of an objective with rollouts: a number for every
   * place, put behind the values of every answer.
   */
  reference?(forward: Forward, inputs: Tensors): Tensor;
  /** Where the examples of a step are answers that the model gives to the lines of the file, and that are graded. */
  readonly rollouts?: RolloutSettings;
  /** The report of a finished run on its validation file; null where there is nothing to report. */
  evaluate(evaluation: RunEvaluation): Promise<Record<string, unknown> | null>;
  /** Takes as much memory as that does at its peak, and gives it back; absent: it takes less than a step. */
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
  /** Tokens of an answer, at most. */
  readonly answerLength: number;
  readonly evalInterval: number;
  /** Answers to each prompt that is validated on. */
  readonly evalSamples: number;
  /** What answers must be; null: any text. */
  readonly form: AnswerForm | null;
}

/** Layers of a task's own on top of a model. They are trained whole, whatever the tuning of the model. */
export interface Head {
  readonly parameters: readonly Parameter[];
  /** Modules that hold them, as PEFT's `modules_to_save` has them. */
  readonly modules: readonly string[];
  /** The class of `transformers` that the model is with it. */
  readonly served: string;
  readonly meaning: OutputMeaning;
  /** By name: those of the model that the run goes on from, or fresh ones from the seed. */
  firstValues(seed: number): Promise<Record<string, Float32Array>>;
}

/** The model of a run inside a program. */
export interface Forward {
  readonly model: Model;
  /** The model's and the head's, trained or frozen, by name. */
  weight(name: string): Tensor;
  /**
   * For a forward pass in which tokens see only their own segment; adapters and their dropout are in them. segments [rows, length]
   * int32; `source` for a decoder.
   */
  layers(segments: Tensor, source?: PackedSource): Layers;
}

/** Scalars, sums over a micro-batch; gradients flow from `lossSum` alone. */
export interface LossTensors {
  readonly lossSum: Tensor;
  /** Of the measure; the metric is score / count. */
  readonly score: Tensor;
  readonly count: Tensor;
  /** What losses and gradients are divided by, over the whole batch; `count` where absent. */
  readonly weight?: Tensor;
}

/** A loss over vectors of all examples of a batch. See comparison.ts. */
export interface BatchLoss {
  /** Vectors that an example has, where all of its texts are there. */
  readonly vectors: number;
  /** Places for vectors in a micro-batch: those of an example lie together, in the order of the plan. */
  texts(shape: MicroBatchShape): number;
  /** [texts, hiddenSize] */
  vectorsOf(forward: Forward, inputs: Tensors): Tensor;
  /** vectors [examples, vectors, hiddenSize]; present [examples, vectors] float32, 0 for the zeros of a text that is not there. */
  loss(vectors: Tensor, present: Tensor): LossTensors;
}

/** What an objective is made of; all of it is there before anything is decided. */
export interface ObjectiveInputs<M extends Method = Method> {
  readonly method: M;
  readonly hyperparameters: RequestedHyperparameters;
  readonly model: Model;
  readonly tokenizer: Tokenizer;
  /** That the run goes on from, and its folder. */
  readonly adapter: Adapter | null;
  readonly adapterDirectory: string | null;
  readonly trainingFile: string;
}

/** Throws TrainingFailure or ModelError when the model, the file or the settings do not suit. */
export type OpenObjective<M extends Method = Method> = (inputs: ObjectiveInputs<M>) => Promise<Objective>;
