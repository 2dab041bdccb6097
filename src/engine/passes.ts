// The lists of passes, in the order in which engines apply them. Each pass is a file in passes/.
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

/**
 * For every engine that traces. Recomputation comes last: it duplicates nodes that earlier passes would merge again.
 */
export const PORTABLE_PASSES: readonly Pass[] = [...COMMON, recompute];

/** For the `onnx` engine: adds passes that make ops only ONNX Runtime has. */
export const PASSES: readonly Pass[] = [...COMMON, foldFactors, removeDead, makeGemms, removeDead, recompute];
