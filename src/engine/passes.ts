// The passes of the `onnx` engine, in order. What a pass does is in its own file.
import type { Pass } from './graph.ts';
import { removeDead } from './passes/dead.ts';

export const PASSES: readonly Pass[] = [removeDead];
