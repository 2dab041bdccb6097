// The passes of the engines that trace, in order. What a pass does is in its own file.
import type { Pass } from './graph.ts';
import { removeBroadcasts } from './passes/broadcasts.ts';
import { foldConstants } from './passes/constants.ts';
import { removeDead } from './passes/dead.ts';
import { removeIdentities } from './passes/identities.ts';
import { joinLosses } from './passes/losses.ts';
import { mergeEqual } from './passes/merge.ts';
import { foldFactors, foldIntoProducts, makeGemms } from './passes/products.ts';
import { recompute } from './passes/recompute.ts';
import { moveReshapes } from './passes/reshapes.ts';

const COMMON: readonly Pass[] = [
  removeDead,
  removeIdentities,
  removeBroadcasts,
  removeIdentities,
  foldConstants,
  moveReshapes,
  removeIdentities,
  mergeEqual,
  joinLosses,
  foldIntoProducts,
  foldIntoProducts,
  removeDead,
];

/** Those that make less work of any kind, for every engine; what is to be computed twice comes last. */
export const PORTABLE_PASSES: readonly Pass[] = [...COMMON, recompute];

/** For the `onnx` engine: some make ops that only ONNX Runtime has. */
export const PASSES: readonly Pass[] = [...COMMON, foldFactors, removeDead, makeGemms, removeDead, recompute];
