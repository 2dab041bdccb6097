// The nodes that products, and sums of rows, become on a device and in a precision, run on the processor: their numbers, and no node that
// the device lacks.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Tensor } from '@tensorflow/tfjs';
import { expect, test } from 'vitest';
import { openCpuEngine } from '../../src/engine/cpu.ts';
import { lower } from '../../src/engine/onnx/lower.ts';
import type { Precision, Provider } from '../../src/engine/onnx/lowering.ts';
import { openSession } from '../../src/engine/onnx/session.ts';
import { onnxEngine } from '../../src/engine/onnx.ts';
import { crossEntropySums } from '../../src/engine/ops.ts';
import { PASSES } from '../../src/engine/passes.ts';
import type { Engine, HostArrays, Program } from '../../src/engine/program.ts';
import { tf } from '../../src/engine/tf.ts';
import { trace } from '../../src/engine/trace.ts';
import { ONNX_TYPES, type OnnxGraph, type OnnxNode } from '../../src/formats/onnx.ts';
import { goldenDirectory, loadGolden, runGradients } from '../models/golden.ts';
import { devicesUnderTest } from './engines.ts';
import { expectAlike, f32, type Given, i32, programOf, runOn } from './programs.ts';

const loweredFor = (
  provider: Provider,
  program: Program,
  { precision = 'float32', sharedWeights = false }: { precision?: Precision; sharedWeights?: boolean } = {},
) => {
  const graph = PASSES.reduce((graph, pass) => pass(graph), trace(program));
  const reading = { locate: (file: string) => file, widenOnce: false, integers: null };
  return lower(graph, { provider, precision, sharedWeights, ...reading });
};

const SESSION = { provider: 'cpu', threads: 1, prepack: false, widenOnce: false, profile: null } as const;

/** Numbers from nodes that were made for another device. */
async function runLowered(
  { model, ...names }: ReturnType<typeof loweredFor>,
  inputs: HostArrays,
  results: HostArrays,
) {
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
    const { ops, results } = await runLowered(loweredFor('webgpu', program), inputs, into);
    expectAlike(results, expected);
    expect(ops).not.toContain('FusedMatMul');
  },
);

// ---- few rows of a large matrix that other programs read too

const fewRows = [2, 7, 64].flatMap(rows => [false, true].map(added => ({ rows, added, turned: true })));
const others = [
  { rows: 1, columns: 24, added: false, turned: false },
  { rows: 65, columns: 8 * 65, added: false, turned: false },
  { rows: 4, columns: 8, added: true, turned: false },
];

test.each([...fewRows.map(one => ({ ...one, columns: 8 * one.rows })), ...others])(
  '$rows rows by $columns columns, a term added $added: the matrix comes first $turned',
  async ({ rows, columns, added, turned }) => {
    const given = [f32([rows, 5]), f32([columns, 5], 2), ...(added ? [f32([rows, columns], 3)] : [])];
    const body = (a: Tensor, b: Tensor, term?: Tensor) => {
      const made = product(false, true, 0.5)(a, b);
      return term ? made.add(term) : made;
    };
    const { program, inputs } = programOf('product', given, body as never);
    const expected = await runOn(await openCpuEngine(), program, inputs);
    const into = { 0: new Float32Array(rows * columns) };
    const lowered = loweredFor('cpu', program, { sharedWeights: true });
    const { ops, results } = await runLowered(lowered, inputs, into);
    expectAlike(results, expected);
    expect(ops.includes('Transpose')).toBe(turned);
  },
);

test('a program with weights of its own leaves the matrix where it is', () => {
  const { program } = programOf('product', [f32([4, 5]), f32([64, 5], 2)], product(false, true, 1) as never);
  expect(loweredFor('cpu', program).model.graph.nodes.map(({ op }) => op)).toEqual(['FusedMatMul']);
});

test('of one row the factor is taken out before the product', async () => {
  const given: [Given, Given] = [f32([2, 3, 1, 8]), f32([2, 3, 16, 8], 2)];
  const { program, inputs } = programOf('product', given, product(false, true, 0.3) as never);
  const lowered = loweredFor('cpu', program, { sharedWeights: true });
  const [mul, fused] = lowered.model.graph.nodes;
  expect([mul!.op, fused!.op, fused!.attributes.alpha]).toEqual(['Mul', 'FusedMatMul', { float: 1 }]);
  const { results } = await runLowered(lowered, inputs, { 0: new Float32Array(2 * 3 * 16) });
  expectAlike(results, await runOn(await openCpuEngine(), program, inputs));
});

// ---- bfloat16

const bits = new Uint32Array(1);
const number = new Float32Array(bits.buffer);

/** The nearest number of eight significant bits, of two equally near the even one. */
function toBfloat16(value: number): number {
  number[0] = value;
  const low = bits[0]! & 0xffff;
  const up = low > 0x8000 || (low === 0x8000 && (bits[0]! & 0x10000) !== 0);
  bits[0] = (bits[0]! & 0xffff0000) + (up ? 0x10000 : 0);
  return number[0]!;
}

const inBfloat16 = (given: Given): Given => ({
  ...given,
  data: Float32Array.from(given.data as Float32Array, toBfloat16),
});

const roundingOn = (provider: Provider) =>
  onnxEngine({
    ...{ provider, threads: 1, passes: PASSES, profile: null, integers: null },
    precision: 'bfloat16',
  });

/** The processor, which rounds around products in float32, and CUDA, which multiplies bfloat16, where it is to be tested. */
const onProcessor = roundingOn('cpu');
const engines = [
  onProcessor,
  ...devicesUnderTest()
    .filter(device => device === 'cuda')
    .map(roundingOn),
];
const each = engines.flatMap(engine =>
  CASES.map(one => ({ engine, on: `onnx on ${engine.device}`, ...one })),
);

/** Added up in another order a sum may be rounded to the next number of eight bits. */
const ONE_BIT = 2 ** -7;

test.each(each)(
  '$on in bfloat16: $axes axes, transposed $transposeA and $transposeB, times $factor',
  async ({ engine, given, transposeA, transposeB, factor }) => {
    const { program, inputs } = programOf('product', given, product(transposeA, transposeB, factor) as never);
    const rounded = given.map(inBfloat16);
    const exact = programOf('product', rounded, product(transposeA, transposeB, factor) as never);
    const { 0: sums } = await runOn(await openCpuEngine(), exact.program, exact.inputs);
    const expected = { 0: Float32Array.from(sums as Float32Array, toBfloat16) };
    const tolerance = engine === onProcessor ? 1e-6 : ONE_BIT;
    expectAlike(await runOn(engine, program, inputs), expected, tolerance);
  },
);

const MEETING: Record<string, { given: readonly Given[]; run: (...tensors: Tensor[]) => unknown }> = {
  'of places in a table': {
    given: [f32([6, 3]), i32([4], [5, 1, 1, 0])],
    run: (table, places) => tf.grad(given => tf.gather(given, places as never).square())(table),
  },
  'of the targets of scores': {
    given: [f32([5, 4]), f32([7, 4], 2), i32([5], [3, -1, 0, 3, -1])],
    run: (hidden, weight, targets) =>
      tf.grad(given => crossEntropySums(hidden, given, targets).lossSum!)(weight),
  },
};

test.each(Object.entries(MEETING))(
  'for webgpu rows that meet are added in one order: gradients %s',
  async (_, { given, run }) => {
    const { program, inputs } = programOf('meeting', given, run as never);
    const expected = await runOn(await openCpuEngine(), program, inputs);
    const into = { 0: new Float32Array(expected[0]!.length) };
    const { ops, results } = await runLowered(loweredFor('webgpu', program), inputs, into);
    expectAlike(results, expected);
    expect(ops).toContain('ScatterND');
    // Of those that change one number of a row each, no two meet.
    expect(loweredFor('webgpu', program).model.graph.nodes.filter(addsAsItComes)).toEqual([]);
    expect(loweredFor('cpu', program).model.graph.nodes.filter(addsAsItComes)).toHaveLength(1);
  },
);

const addsAsItComes = ({ op, attributes }: OnnxNode) => op.startsWith('Scatter') && 'reduction' in attributes;

test('a term is added in float32, and so are gradients over micro-batches', async () => {
  const given = [f32([3, 4]), f32([4, 5], 2), f32([3, 5], 3, 1e-3)];
  const body = (a: Tensor, b: Tensor, before: Tensor) => tf.matMul(a as never, b as never).add(before);
  const { program, inputs } = programOf('sum', given, body as never);
  const [a, b, before] = given;
  const alone = programOf('product', [a!, b!], product(false, false, 1) as never);
  const { 0: products } = await runOn(onProcessor, alone.program, alone.inputs);
  const expected = { 0: (products as Float32Array).map((value, i) => value + before!.data[i]!) };
  expectAlike(await runOn(onProcessor, program, inputs), expected, 1e-7);
});

/** Also those of the bodies of loops. */
const allNodes = ({ nodes }: OnnxGraph): OnnxNode[] =>
  nodes.flatMap(node => [
    node,
    ...Object.values(node.attributes).flatMap(attribute =>
      'graph' in attribute ? allNodes(attribute.graph) : [],
    ),
  ]);

const typeNames = Object.fromEntries(Object.entries(ONNX_TYPES).map(([name, code]) => [code, name]));

/** The first program that `use` compiles. */
async function firstProgram(use: (engine: Engine) => Promise<unknown>): Promise<Program> {
  const programs: Program[] = [];
  const compile = (program: Program) => {
    programs.push(program);
    return onProcessor.compile(program);
  };
  await use({ ...onProcessor, compile });
  return programs[0]!;
}

test('for cuda every product of a training step reads bfloat16, and stored weights as they are', async () => {
  const { model, adapter, golden } = await loadGolden('llama-bf16-sharded');
  const program = await firstProgram(engine => runGradients(engine, model, golden.batch, adapter));
  const { graph } = loweredFor('cuda', program, { precision: 'bfloat16' }).model;
  const nodes = allNodes(graph);
  const stored = new Map<string, string>(graph.initializers.map(({ name, type }) => [name, type]));
  const casts = nodes.filter(({ op }) => op === 'Cast');
  const typeOf = (name: string) => {
    const cast = casts.find(({ outputs }) => outputs[0] === name);
    return cast ? typeNames[(cast.attributes.to as { int: number }).int] : (stored.get(name) ?? 'float32');
  };
  const factors = nodes
    .filter(({ op }) => ['MatMul', 'FusedMatMul', 'Gemm'].includes(op))
    .flatMap(({ inputs }) => inputs.slice(0, 2));
  expect(factors.length).toBeGreaterThan(20);
  expect(new Set(factors.map(typeOf))).toEqual(new Set(['bfloat16']));
  expect(factors.some(name => stored.has(name))).toBe(true);
  const widened = casts.filter(({ inputs }) => stored.has(inputs[0]!)).map(({ outputs }) => outputs[0]!);
  const readers = (name: string) => nodes.filter(({ inputs }) => inputs.includes(name));
  for (const name of widened) expect(readers(name).map(({ op }) => op)).not.toEqual([]);
  for (const name of widened) expect(readers(name).map(({ op }) => op)).not.toContain('Cast');
});

/** How far PyTorch's autocast is from its float32, as tests/golden/autocast.py measured it. */
const AUTOCAST: Record<string, { loss: number; gradients: number }> = JSON.parse(
  readFileSync(join(goldenDirectory('.'), 'autocast.json'), 'utf8'),
);

const models = engines.flatMap(engine =>
  Object.entries(AUTOCAST).map(([name, theirs]) => ({
    engine,
    on: `onnx on ${engine.device}`,
    name,
    theirs,
  })),
);

test.each(models)(
  '$on in bfloat16: gradients of $name are as near to float32 as those of PyTorch in bfloat16',
  async ({ engine, name, theirs }) => {
    const { model, adapter, golden } = await loadGolden(name);
    const { loss, gradients } = await runGradients(engine, model, golden.batch, adapter);
    expect(Math.abs(loss / golden.loraLoss - 1)).toBeLessThan(2e-3);
    const names = Object.keys(gradients);
    const expected = names.flatMap(name => [...golden.tensors[`lora_gradient.${name}`]!]);
    const apart = names.flatMap(name => [...gradients[name]!]).map((value, i) => value - expected[i]!);
    const ours = Math.hypot(...apart) / Math.hypot(...expected);
    expect(ours).toBeLessThan(1.2 * theirs.gradients);
    // Else nothing was rounded.
    expect(ours).toBeGreaterThan(0.5 * theirs.gradients);
  },
);
