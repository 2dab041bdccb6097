// Cross-entropy token by token in ONNX, for losses that weigh tokens by what others of them lost (preferences, policies). Chunk by
// chunk (chunks.ts); its gradient computes the logits again, because it begins when all losses are known.
import { crossEntropyChunk } from '../compositions.ts';
import { chooseRows, overChunks, placeRows } from './chunks.ts';
import {
  hiddenGradient,
  outputLayerOf,
  score,
  subtractTargets,
  weightGradient,
  weightSum,
} from './cross-entropy.ts';
import { prepareFactor } from './products.ts';
import type { Rule } from './rules.ts';

export const tokenLosses: Rule = (to, node, [hidden, weight, targets, bias], [losses]) => {
  const [rowCount] = node.inputs[0]!.shape as [number];
  const largest = crossEntropyChunk(rowCount, node.inputs[1]!.shape[0]!);
  const layer = outputLayerOf(node, weight!, bias);
  prepareFactor(to, layer.weight);
  const rows = chooseRows(to, { hidden: hidden!, targets: targets! }, largest);
  const result = to.fresh('losses');
  overChunks(to, rows, { collected: [{ width: 1, result }] }, (body, chunk) => [
    score(body, chunk, layer).losses,
  ]);
  placeRows(to, rows, result, [rowCount], losses!);
};

export const tokenLossesGrad: Rule = (to, node, [hidden, weight, targets, dy, bias], [gradient]) => {
  const [rowCount, width] = node.inputs[0]!.shape as [number, number];
  const [vocab] = node.inputs[1]!.shape as [number];
  const layer = outputLayerOf(node, weight!, bias);
  prepareFactor(to, layer.weight);
  const largest = crossEntropyChunk(rowCount, vocab);
  const rows = chooseRows(to, { hidden: hidden!, targets: targets!, dy: dy! }, largest);
  if (node.attributes.of === 'hidden') {
    const result = to.fresh('dh');
    overChunks(to, rows, { collected: [{ width, result }] }, (body, chunk) => [
      hiddenGradient(body, chunk, layer, score(body, chunk, layer).spread),
    ]);
    placeRows(to, rows, result, [rowCount, width], gradient!);
    return;
  }
  const sum = layer.cap === null ? to.fresh('dw') : gradient!;
  overChunks(to, rows, { carried: [weightSum(to, [vocab, width], sum)] }, (body, chunk, [before]) => [
    weightGradient(body, chunk, score(body, chunk, layer).spread, before!),
  ]);
  if (layer.cap === null) subtractTargets(to, rows, sum, width, gradient!);
};
