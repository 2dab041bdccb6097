// Cross-entropy token by token in ONNX, for losses that weigh tokens by what others of them lost (preferences, policies). Chunk by
// chunk like cross-entropy.ts; its gradient computes the scores once more, because it begins when all losses are known.
import type { OnnxValue } from '../../formats/onnx.ts';
import { crossEntropyChunk } from '../compositions.ts';
import type { Node } from '../graph.ts';
import {
  chooseRows,
  hiddenGradient,
  type OutputLayer,
  placeRows,
  type Rows,
  score,
  sliceChunk,
  subtractTargets,
  weightGradient,
} from './cross-entropy.ts';
import type { Lowering } from './lowering.ts';
import { prepareFactor } from './products.ts';
import type { Rule } from './rules.ts';

/** A loop over the chunks. `body` says what it carries (a first value, and the next one) or, without a first value, gives for every chunk. */
function overChunks(
  to: Lowering,
  rows: Rows,
  output: OnnxValue,
  first: string | null,
  step: (body: Lowering, iteration: string, before: string) => string,
): void {
  const body = to.child();
  const iteration: OnnxValue = { name: body.fresh('i'), type: 'int64', shape: [] };
  const going: OnnxValue = { name: body.fresh('going'), type: 'bool', shape: [] };
  const before = { ...output, name: body.fresh('before') };
  const result = { ...output, name: step(body, iteration.name, before.name) };
  const still: OnnxValue = { ...going, name: body.emit('Identity', [going.name]) };
  const inputs = first === null ? [iteration, going] : [iteration, going, before];
  const trips = to.emit('Reshape', [rows.chunks, to.literal('int64', [0], [])]);
  to.emit('Loop', [trips, to.scalar('bool', 1), ...(first === null ? [] : [first])], {
    attributes: { body: { graph: body.graph('chunk', inputs, [still, result]) } },
    outputs: [output.name],
  });
}

const capOf = ({ attributes }: Node): number | null => (attributes.softcap as number) || null;

export const tokenLosses: Rule = (to, node, [hidden, weight, targets, bias], [losses]) => {
  const [rowCount] = node.inputs[0]!.shape as [number];
  const layer: OutputLayer = { weight: weight!, bias, cap: capOf(node) };
  prepareFactor(to, layer.weight);
  const rows = chooseRows(
    to,
    { hidden: hidden!, targets: targets! },
    crossEntropyChunk(rowCount, node.inputs[1]!.shape[0]!),
  );
  const chunks: OnnxValue = { name: to.fresh('losses'), type: 'float32', shape: [to.fresh('rows'), 1] };
  overChunks(
    to,
    rows,
    chunks,
    null,
    (body, iteration) => score(body, sliceChunk(body, rows, iteration), layer).losses,
  );
  placeRows(to, rows, chunks.name, [rowCount], losses!);
};

export const tokenLossesGrad: Rule = (to, node, [hidden, weight, targets, dy, bias], [gradient]) => {
  const [rowCount, width] = node.inputs[0]!.shape as [number, number];
  const [vocab] = node.inputs[1]!.shape as [number];
  const layer: OutputLayer = { weight: weight!, bias, cap: capOf(node) };
  prepareFactor(to, layer.weight);
  const rows = chooseRows(
    to,
    { hidden: hidden!, targets: targets!, dy: dy! },
    crossEntropyChunk(rowCount, vocab),
  );
  const scored = (body: Lowering, iteration: string) => {
    const chunk = sliceChunk(body, rows, iteration);
    return { chunk, spread: score(body, chunk, layer).spread };
  };
  const capped = layer.cap !== null;
  if (node.attributes.of === 'hidden') {
    const chunks: OnnxValue = { name: to.fresh('dh'), type: 'float32', shape: [to.fresh('rows'), width] };
    overChunks(to, rows, chunks, null, (body, iteration) => {
      const { chunk, spread } = scored(body, iteration);
      return hiddenGradient(body, chunk, weight!, spread, capped);
    });
    placeRows(to, rows, chunks.name, [rowCount, width], gradient!);
    return;
  }
  const sum = capped ? gradient! : to.fresh('dw');
  const zeros = to.emit('Expand', [to.scalar('float32', 0), to.int64([vocab, width])]);
  overChunks(
    to,
    rows,
    { name: sum, type: 'float32', shape: [vocab, width] },
    zeros,
    (body, iteration, before) => {
      const { chunk, spread } = scored(body, iteration);
      return weightGradient(body, chunk, spread, before);
    },
  );
  if (!capped) subtractTargets(to, rows, sum, width, gradient!);
};
