// Values that are computed again instead of kept: the same bits, and less alive at any moment.
import type { Tensor } from '@tensorflow/tfjs';
import { describe, expect, test } from 'vitest';
import { type Graph, type Pass, rewrite, type Value } from '../../src/engine/graph.ts';
import { orderNodes } from '../../src/engine/onnx/order.ts';
import { onnxEngine } from '../../src/engine/onnx.ts';
import { crossEntropySums, gelu, layerNorm, softmaxAttention } from '../../src/engine/ops.ts';
import { chooseCuts, valuesAcross } from '../../src/engine/passes/segments.ts';
import { PASSES, PORTABLE_PASSES } from '../../src/engine/passes.ts';
import type { Program } from '../../src/engine/program.ts';
import { tf } from '../../src/engine/tf.ts';
import { trace } from '../../src/engine/trace.ts';
import { enginesUnderTest } from './engines.ts';
import { onnxRuntimeOrder, peakBytes } from './liveness.ts';
import { bool, f32, i32, programOf, runOn } from './programs.ts';

const LAYERS = 8;
const [LENGTH, WIDTH, HEADS] = [256, 32, 4];

const product = (a: Tensor, b: Tensor): Tensor => tf.matMul(a as never, b as never);

interface Layer {
  readonly wide: Tensor;
  readonly narrow: Tensor;
  readonly gain: Tensor;
  readonly mask: Tensor;
}

/** x [length, width] -> [length, width] */
function block(x: Tensor, { wide, narrow, gain, mask }: Layer): Tensor {
  const normed = layerNorm(x, gain, gain, 1e-5);
  const heads = normed.reshape([1, LENGTH, HEADS, WIDTH / HEADS]).transpose([0, 2, 1, 3]);
  const attended = softmaxAttention(heads, heads, heads, mask, 0.3, { causal: true });
  const sum = x.add(attended.transpose([0, 2, 1, 3]).reshape([LENGTH, WIDTH]));
  return sum.add(product(gelu(product(layerNorm(sum, gain, gain, 1e-5), wide)), narrow));
}

const layers = Array.from({ length: LAYERS }, (_, i) => i);
const targets = Array.from({ length: LENGTH }, (_, i) => (i % 9) - 2);
const mask = Float32Array.from({ length: LENGTH ** 2 }, (_, i) =>
  i % LENGTH > Math.floor(i / LENGTH) ? -1e9 : 0,
);

/** Loss and gradients of a small transformer. */
const { program: bare, inputs } = programOf(
  'transformer',
  [
    f32([LENGTH, WIDTH], 1),
    f32([WIDTH], 2),
    f32([7, WIDTH], 3),
    i32([LENGTH], targets),
    { shape: [1, LENGTH, LENGTH], data: mask },
    ...layers.flatMap(i => [f32([WIDTH, 4 * WIDTH], 4 + i), f32([4 * WIDTH, WIDTH], 20 + i)]),
  ],
  (x: Tensor, gain: Tensor, output: Tensor, targets: Tensor, mask: Tensor, ...weights: Tensor[]) => {
    const loss = (...weights: Tensor[]) => {
      const layer = (i: number) => ({ wide: weights[2 * i]!, narrow: weights[2 * i + 1]!, gain, mask });
      const last = layers.reduce((y, i) => block(y, layer(i)), x);
      return crossEntropySums(last, output, targets).lossSum;
    };
    const { value, grads } = tf.valueAndGrads(loss as never)(weights as never);
    return [value, ...grads];
  },
);
const outputs = Array.from({ length: 2 * LAYERS }, (_, i) => String(i + 1));
const [again, kept] = [true, false].map(
  (recompute): Program => ({ ...bare, gradients: { outputs, recompute } }),
) as [Program, Program];

const graphOf = (program: Program, passes: readonly Pass[]): Graph =>
  passes.reduce((graph, pass) => pass(graph), trace(program));

describe.each([
  ['onnx', PASSES, onnxRuntimeOrder],
  ['tensorflow', PORTABLE_PASSES, (graph: Graph) => graph.nodes],
] as const)('as %s runs it, a model of eight layers', (_, passes, order) => {
  const graph = graphOf(again, passes);

  test('has a third of the memory that keeping everything takes', () => {
    const whole = graphOf(kept, passes);
    expect(peakBytes(graph, order(graph))).toBeLessThan(peakBytes(whole, order(whole)) / 3);
  });

  test('computes nothing before what it reads', () => {
    const made = new Set<Value>([
      ...Object.values(graph.inputs),
      ...graph.weights.keys(),
      ...graph.constants.keys(),
    ]);
    for (const { op, inputs, outputs } of order(graph)) {
      for (const input of inputs) expect(made, op).toContain(input);
      for (const output of outputs) made.add(output);
    }
  });

  test('takes its cross-entropy once', () => {
    expect(graph.nodes.filter(({ op }) => op === 'CrossEntropy')).toHaveLength(1);
  });
});

for (const engine of await enginesUnderTest())
  test(`${engine.name} on ${engine.device}: loss and gradients are the same bits`, async () => {
    expect(await runOn(engine, again, inputs)).toEqual(await runOn(engine, kept, inputs));
  });

/** Puts After in place of Maximum. */
const makeAfter: Pass = graph =>
  rewrite(graph, ({ op, inputs, outputs }, builder) =>
    op === 'Maximum' ? builder.add('After', inputs, {}, outputs) : null,
  );

describe('After', () => {
  const engine = onnxEngine({ provider: 'cpu', threads: 1, passes: [makeAfter], profile: null });
  const later = f32([2, 3], 3);

  test.each([
    ['float32', { shape: [6], data: Float32Array.of(-0, 0, Number.NaN, -Infinity, 1e-45, 3) }],
    ['int32', i32([2, 3], [-1, 0, 2 ** 31 - 1, 4, 5, 6])],
  ])('copies %s bit for bit', async (_, given) => {
    const { program, inputs } = programOf('after', [given, later], (x: Tensor, y: Tensor) =>
      tf.maximum(x, y.sum().cast(x.dtype)),
    );
    const { 0: copied } = await runOn(engine, program, inputs);
    expect(Buffer.from(copied!.buffer)).toEqual(Buffer.from(given.data.buffer));
  });

  test('copies bool, and waits for numbers that are none', async () => {
    const given = bool([3], [1, 0, 1]);
    const nothing = { shape: [1], data: Float32Array.of(Number.NaN) };
    const masked: Pass = graph =>
      rewrite(graph, ({ op, inputs, outputs }, builder) =>
        op === 'LogicalOr' ? builder.add('After', inputs, {}, outputs) : null,
      );
    const { program, inputs } = programOf('after', [given, nothing], (x: Tensor, y: Tensor) =>
      tf.logicalOr(x, y.exp().isNaN()),
    );
    const options = { provider: 'cpu', threads: 1, passes: [masked], profile: null } as const;
    expect((await runOn(onnxEngine(options), program, inputs))[0]).toEqual(given.data);
  });
});

test('cuts lie where little is alive, and leave out what is alive everywhere', () => {
  const { nodes } = graphOf(
    programOf(
      'chain',
      [f32([4]), f32([4, 64], 2), f32([64, 4], 3)],
      (x: Tensor, up: Tensor, down: Tensor) => {
        let y: Tensor = x.reshape([1, 4]);
        for (let i = 0; i < 6; i++) y = product(product(y, up).exp(), down).sin();
        return y;
      },
    ).program,
    [],
  );
  const cuts = chooseCuts(nodes, new Set(nodes.flatMap(({ outputs }) => outputs)));
  expect(cuts.length).toBeGreaterThan(3);
  for (const value of valuesAcross(cuts, nodes)) expect(value.shape).toEqual([1, 4]);
});

test('what ONNX Runtime visits first is what can run first', () => {
  const { program } = programOf('two', [f32([2])], (x: Tensor) => {
    const first = x.exp();
    const second = first.sin();
    return [second.cos(), first.neg(), second.tan()];
  });
  const ops = orderNodes(trace(program)).map(({ op }) => op);
  expect(ops.slice(0, 2)).toEqual(['Exp', 'Sin']);
  expect(ops.at(-1)).toBe('Neg');
});
