// The nodes that a device's products become, run on the processor: the same numbers, and no node that the device lacks.
import type { Tensor } from '@tensorflow/tfjs';
import { expect, test } from 'vitest';
import { openCpuEngine } from '../../src/engine/cpu.ts';
import { lower } from '../../src/engine/onnx/lower.ts';
import type { Provider } from '../../src/engine/onnx/lowering.ts';
import { openSession } from '../../src/engine/onnx/session.ts';
import { PASSES } from '../../src/engine/passes.ts';
import type { HostArrays, Program } from '../../src/engine/program.ts';
import { tf } from '../../src/engine/tf.ts';
import { trace } from '../../src/engine/trace.ts';
import { expectAlike, f32, type Given, programOf, runOn } from './programs.ts';

const loweredFor = (provider: Provider, program: Program) => {
  const graph = PASSES.reduce((graph, pass) => pass(graph), trace(program));
  return lower(graph, { provider, locate: file => file, widenOnce: false, integers: null });
};

const SESSION = { provider: 'cpu', threads: 1, prepack: false, widenOnce: false, profile: null } as const;

/** Numbers from nodes that were made for another device. */
async function runLowered(provider: Provider, program: Program, inputs: HostArrays, results: HostArrays) {
  const { model, ...names } = loweredFor(provider, program);
  const session = await openSession(model, '/', SESSION);
  const rename = (arrays: HostArrays, names: Readonly<Record<string, string>>) =>
    Object.fromEntries(Object.entries(arrays).map(([name, array]) => [names[name]!, array]));
  await session.run(rename(inputs, names.inputs), rename(results, names.outputs));
  await session.close();
  return { ops: model.graph.nodes.map(({ op }) => op), results };
}

const product = (transposeA: boolean, transposeB: boolean, factor: number) => (a: Tensor, b: Tensor) =>
  tf.matMul(a as never, b as never, transposeA, transposeB).mul(factor);

const MATRICES: readonly [Given, Given][] = [
  [f32([3, 4]), f32([4, 5], 2)],
  [f32([2, 3, 4]), f32([2, 4, 5], 2)],
];
const turned = ({ shape, data }: Given): Given => ({
  shape: [...shape.slice(0, -2), shape.at(-1)!, shape.at(-2)!],
  data,
});

const CASES = MATRICES.flatMap(([a, b]) =>
  [false, true].flatMap(transposeA =>
    [false, true].flatMap(transposeB =>
      [1, 0.5].map(factor => ({
        given: [transposeA ? turned(a) : a, transposeB ? turned(b) : b],
        ...{ axes: a.shape.length, transposeA, transposeB, factor },
      })),
    ),
  ),
);

test.each(CASES)(
  'for webgpu: $axes axes, transposed $transposeA and $transposeB, times $factor',
  async ({ given, transposeA, transposeB, factor }) => {
    const { program, inputs } = programOf('product', given, product(transposeA, transposeB, factor) as never);
    const expected = await runOn(await openCpuEngine(), program, inputs);
    const into = { 0: new Float32Array(expected[0]!.length) };
    const { ops, results } = await runLowered('webgpu', program, inputs, into);
    expectAlike(results, expected);
    expect(ops).not.toContain('FusedMatMul');
  },
);
