// A graph with every pass on computes what it computes with every pass off: losses and gradients of every architecture's adapter.
import { expect, test } from 'vitest';
import { onnxEngine } from '../../src/engine/onnx.ts';
import { PASSES } from '../../src/engine/passes.ts';
import { loadGolden, relativeDifference, runGradients, runProbe } from './golden.ts';
import { PROVEN } from './proven.ts';

const engineWith = (passes: typeof PASSES) =>
  onnxEngine({ provider: 'cpu', threads: 1, passes, profile: null });
const [on, off] = [engineWith(PASSES), engineWith([])];

test.each(PROVEN)('%s', async name => {
  const { model, adapter, golden } = await loadGolden(name);
  const { batch, tensors } = golden;
  const run = (engine: typeof on) =>
    model.kind === 'encoder'
      ? runProbe(engine, model, batch, tensors.probe!, adapter)
      : runGradients(engine, model, batch, adapter);
  const [with_, without] = [await run(on), await run(off)];
  expect(Math.abs(with_.loss / without.loss - 1)).toBeLessThan(1e-5);
  expect(Object.keys(with_.gradients)).toEqual(Object.keys(without.gradients));
  const largest = Math.max(...Object.values(without.gradients).map(each => Math.max(...each.map(Math.abs))));
  for (const [tensor, expected] of Object.entries(without.gradients)) {
    const rounding = 1e-6 * largest;
    const actual = with_.gradients[tensor]!;
    const close = expected.every((value, i) => Math.abs(actual[i]! - value) <= rounding);
    if (!close) expect(relativeDifference(actual, expected), tensor).toBeLessThan(1e-4);
  }
});
