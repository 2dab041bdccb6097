// AdamW with decoupled weight decay and clipping by global norm, as a program, and its steps over chunks of the flat
// host state (device-state.ts has those of device arrays). https://arxiv.org/abs/1711.05101, in the order of operations
// of `torch.optim.AdamW`.
import type { Engine, Executable, HostArrays, Program, TensorSpec } from '../engine/program.ts';
import type { StateLayout } from './state.ts';

const BETA1 = 0.9;
const BETA2 = 0.999;
const EPSILON = 1e-8;
/** As `torch.nn.utils.clip_grad_norm_`. */
const CLIP_EPSILON = 1e-6;
/** Squares are summed in float32 over this many, and those sums in float64. */
const SUM_WIDTH = 1024;

/** What a step changes. */
export interface OptimizerState {
  readonly parameters: Float32Array;
  /** First and second moments. */
  readonly m: Float32Array;
  readonly v: Float32Array;
}

export interface OptimizerStep {
  /** Counts from 1. */
  readonly step: number;
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly maxGradNorm: number;
  /** What the batch's summed gradients are divided by: its trained tokens, or its examples. */
  readonly weight: number;
}

export interface Optimizer {
  /** Changes `state` in place; resolves to the norm of the mean gradient before clipping. */
  update(state: OptimizerState, gradients: Float32Array, step: OptimizerStep): Promise<number>;
  close(): Promise<void>;
}

const vector = (size: number): TensorSpec => ({ shape: [size], dtype: 'float32' });
const SCALAR: TensorSpec = { shape: [], dtype: 'float32' };

/** AdamW on `size` parameters. */
export const adamwProgram = (size: number): Program => ({
  name: `adamw-${size}`,
  inputs: {
    parameters: vector(size),
    gradients: vector(size),
    m: vector(size),
    v: vector(size),
    gradientScale: SCALAR,
    decay: SCALAR,
    rate: SCALAR,
    correction: SCALAR,
  },
  weights: {},
  run({ parameters, gradients, m, v, gradientScale, decay, rate, correction }) {
    const g = gradients!.mul(gradientScale!);
    const nextM = m!.mul(BETA1).add(g.mul(1 - BETA1));
    const nextV = v!.mul(BETA2).add(g.square().mul(1 - BETA2));
    const denominator = nextV.sqrt().mul(correction!).add(EPSILON);
    const nextParameters = parameters!.mul(decay!).sub(nextM.div(denominator).mul(rate!));
    return { parameters: nextParameters, m: nextM, v: nextV };
  },
});

const squaresProgram = (chunk: number): Program => ({
  name: `squares-${chunk}`,
  inputs: { gradients: vector(chunk) },
  weights: {},
  run: ({ gradients }) => ({
    sums: gradients!
      .square()
      .reshape([chunk / SUM_WIDTH, SUM_WIDTH])
      .sum(1),
  }),
});

async function sumOfSquares(program: Executable, gradients: Float32Array, chunk: number): Promise<number> {
  let total = 0;
  for (let at = 0; at < gradients.length; at += chunk) {
    const { sums } = await program.run({ gradients: gradients.subarray(at, at + chunk) });
    for (const sum of sums as Float32Array) total += sum;
  }
  return total;
}

const scalar = (value: number) => Float32Array.of(value);

export interface StepFactors {
  /** Norm of the mean gradient before clipping. */
  readonly norm: number;
  /** Scalar inputs of the program for parameters with weight decay, and for those without. */
  readonly decaying: HostArrays;
  readonly lasting: HostArrays;
}

/** `squares`: the sum of squares of the summed gradients. */
export function stepFactors(
  squares: number,
  { step, learningRate, weightDecay, maxGradNorm, weight }: OptimizerStep,
): StepFactors {
  const share = weight > 0 ? 1 / weight : 0;
  const norm = Math.sqrt(squares) * share;
  const clip = Math.min(1, maxGradNorm / (norm + CLIP_EPSILON));
  const shared = {
    gradientScale: scalar(share * clip),
    rate: scalar(learningRate / (1 - BETA1 ** step)),
    correction: scalar(1 / Math.sqrt(1 - BETA2 ** step)),
  };
  return {
    norm,
    decaying: { ...shared, decay: scalar(1 - learningRate * weightDecay) },
    lasting: { ...shared, decay: scalar(1) },
  };
}

export async function openAdamW(engine: Engine, { chunk, size, decayEnd }: StateLayout): Promise<Optimizer> {
  const squares = await engine.compile(squaresProgram(chunk));
  const adamw = await engine.compile(adamwProgram(chunk));
  const scratch = {
    parameters: new Float32Array(chunk),
    m: new Float32Array(chunk),
    v: new Float32Array(chunk),
  };

  return {
    async update(state, gradients, step) {
      const factors = stepFactors(await sumOfSquares(squares, gradients, chunk), step);
      for (let at = 0; at < size; at += chunk) {
        const part = (array: Float32Array) => array.subarray(at, at + chunk);
        const inputs = {
          parameters: part(state.parameters),
          gradients: part(gradients),
          m: part(state.m),
          v: part(state.v),
          ...(at < decayEnd ? factors.decaying : factors.lasting),
        };
        await adamw.run(inputs, scratch);
        state.parameters.set(scratch.parameters, at);
        state.m.set(scratch.m, at);
        state.v.set(scratch.v, at);
      }
      return factors.norm;
    },
    async close() {
      await squares.close();
      await adamw.close();
    },
  };
}
