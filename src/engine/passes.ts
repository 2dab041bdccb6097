// The passes of the `onnx` engine, in order. What a pass does is in its own file.
import type { Pass } from './graph.ts';
import { removeBroadcasts } from './passes/broadcasts.ts';
import { foldConstants } from './passes/constants.ts';
import { removeDead } from './passes/dead.ts';
import { removeIdentities } from './passes/identities.ts';
import { joinLosses } from './passes/losses.ts';
import { mergeEqual } from './passes/merge.ts';
import { foldFactors, foldIntoProducts, makeGemms } from './passes/products.ts';
import { moveReshapes } from './passes/reshapes.ts';

export const PASSES: readonly Pass[] = [
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
  foldFactors,
  removeDead,
  makeGemms,
  removeDead,
];
