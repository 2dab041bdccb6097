// The `onnx` engine: programs are traced once, improved by passes, lowered to ONNX and run by ONNX Runtime.
import { realpath } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import { parse } from 'node:path';
import { allocate, checkArrays, ProgramError } from './arrays.ts';
import type { EngineOptions } from './engine.ts';
import type { Graph, Pass } from './graph.ts';
import { lower } from './onnx/lower.ts';
import { locateFromRoot, openSession, type Provider, type SessionOptions } from './onnx/session.ts';
import { PASSES } from './passes.ts';
import type { Engine, Executable, HostArrays, Program, StoredTensor, TensorSpec } from './program.ts';
import { trace } from './trace.ts';

export interface OnnxOptions {
  readonly provider: Provider;
  readonly threads: number;
  readonly passes: readonly Pass[];
  readonly profile: string | null;
}

/** Bytes that a graph's weights take as float32. */
const widenedBytes = (graph: Graph): number =>
  [...graph.weights.keys()].reduce(
    (sum, { shape }) => sum + 4 * shape.reduce((size, length) => size * length, 1),
    0,
  );

/** A program that shares its weights may have a copy of its own up to this size. */
const SHARED_COPY_BYTES = 32 * 2 ** 20;

/** Of the machine or its control group. */
const machineBytes = (): number =>
  Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);

/**
 * Copies of the weights pay as long as they take a small part of the memory. Not of what is free at the moment: products with
 * rearranged weights round otherwise, and a run that goes on later must give the same bits.
 */
function weightOptions(graph: Graph, shared: boolean): Pick<SessionOptions, 'prepack' | 'widenOnce'> {
  const bytes = widenedBytes(graph);
  if (shared) return { prepack: bytes <= SHARED_COPY_BYTES, widenOnce: bytes <= SHARED_COPY_BYTES };
  return { prepack: bytes < machineBytes() / 8, widenOnce: bytes < machineBytes() / 4 };
}

async function resolveFiles(
  weights: Readonly<Record<string, StoredTensor>>,
): Promise<Record<string, StoredTensor>> {
  const files = new Map<string, string>();
  for (const { file } of Object.values(weights)) if (!files.has(file)) files.set(file, await realpath(file));
  return Object.fromEntries(
    Object.entries(weights).map(([name, stored]) => [name, { ...stored, file: files.get(stored.file)! }]),
  );
}

/** The root of the one file system that holds all weights. */
function rootOf(program: Program): string {
  const roots = new Set(Object.values(program.weights).map(({ file }) => parse(file).root));
  if (roots.size > 1)
    throw new ProgramError(`${program.name}: weights lie on several drives: ${[...roots].join(', ')}`);
  return [...roots][0] ?? '/';
}

function specsOf(graph: Graph): Record<string, TensorSpec> {
  return Object.fromEntries(
    Object.entries(graph.outputs).map(([name, { shape, dtype }]) => [name, { shape: shape.slice(), dtype }]),
  );
}

const rename = (arrays: HostArrays, names: Readonly<Record<string, string>>): HostArrays =>
  Object.fromEntries(Object.entries(arrays).map(([name, array]) => [names[name]!, array]));

async function compile(given: Program, options: OnnxOptions): Promise<Executable> {
  const program = { ...given, weights: await resolveFiles(given.weights) };
  const graph = options.passes.reduce((graph, pass) => pass(graph), trace(program));
  const lowered = lower(graph, locateFromRoot);
  const copies = weightOptions(graph, program.sharesWeights ?? false);
  const session = await openSession(lowered.model, rootOf(program), { ...options, ...copies });
  const outputs = specsOf(graph);
  return {
    outputs,
    async run(inputs, into = {}) {
      checkArrays(`${program.name}: input`, program.inputs, inputs);
      checkArrays(`${program.name}: output`, outputs, into, { partial: true });
      const results: HostArrays = {};
      for (const [name, spec] of Object.entries(outputs)) results[name] = into[name] ?? allocate(spec);
      await session.run(rename(inputs, lowered.inputs), rename(results, lowered.outputs));
      return results;
    },
    close: () => session.close(),
  };
}

/** The engine with everything settable, for tests and benchmarks. */
export const onnxEngine = (options: OnnxOptions): Engine => ({
  name: 'onnx',
  device: options.provider,
  compile: program => compile(program, options),
});

const PROVIDERS = { auto: 'cpu', cpu: 'cpu', cuda: 'cuda', webgpu: 'webgpu' } as const;

export const openOnnxEngine = async ({ device, threads }: EngineOptions): Promise<Engine> =>
  onnxEngine({
    provider: PROVIDERS[device],
    threads: threads || availableParallelism(),
    passes: PASSES,
    profile: null,
  });
