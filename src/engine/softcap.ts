// Soft-capping: cap * tanh(score / cap), which limits scores to (-cap, cap), as in Gemma 2's attention and output
// layer. https://arxiv.org/abs/2408.00118
import type { Tensor } from '@tensorflow/tfjs';

/** cap null: returns x. */
export const softcap = (x: Tensor, cap: number | null): Tensor =>
  cap === null
    ? x
    : x
        .mul(1 / cap)
        .tanh()
        .mul(cap);

/** d softcap / d x, in terms of the capped value. */
export const softcapSlope = (capped: Tensor, cap: number): Tensor =>
  capped
    .mul(1 / cap)
    .square()
    .neg()
    .add(1);
