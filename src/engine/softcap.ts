// Scores kept within (-cap, cap) by cap * tanh(score / cap), as Gemma 2 keeps its attention and its output.
// https://arxiv.org/abs/2408.00118
import type { Tensor } from '@tensorflow/tfjs';

/** null: x as it is. */
export const softcap = (x: Tensor, cap: number | null): Tensor =>
  cap === null
    ? x
    : x
        .mul(1 / cap)
        .tanh()
        .mul(cap);

/** d softcap / d x, from its value. */
export const softcapSlope = (capped: Tensor, cap: number): Tensor =>
  capped
    .mul(1 / cap)
    .square()
    .neg()
    .add(1);
