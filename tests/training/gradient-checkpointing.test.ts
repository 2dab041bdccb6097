// Activations that are computed again instead of kept, in whole models and whole runs. That the bits are the same on every architecture
// is equality.test.ts'.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sizeOf } from '../../src/engine/arrays.ts';
import type { Graph } from '../../src/engine/graph.ts';
import { PASSES } from '../../src/engine/passes.ts';
import { trace } from '../../src/engine/trace.ts';
import { writeSafetensors } from '../../src/formats/safetensors.ts';
import { architectureOf, openModel, requireEncoderDecoder } from '../../src/models/registry.ts';
import { answering } from '../../src/training/objectives/answering.ts';
import { generation } from '../../src/training/objectives/generation.ts';
import type { Objective } from '../../src/training/objectives/objective.ts';
import { preference } from '../../src/training/objectives/preference.ts';
import { gradientProgram, type TrainedModel } from '../../src/training/programs.ts';
import { stateLayoutOf, type Tuning } from '../../src/training/trainable.ts';
import { onnxRuntimeOrder, peakBytes } from '../engine/liveness.ts';
import { temporaryFolder } from '../models/folders.ts';
import { collect, eventsOf, goldenModel, toySpec } from './toy-task.ts';

/** A golden model's shape with more layers, of zeros. */
async function openDeep(name: string, changes: Record<string, number>) {
  const directory = await temporaryFolder();
  const config = {
    ...JSON.parse(await readFile(join(goldenModel(name), 'config.json'), 'utf8')),
    ...changes,
  };
  await writeFile(join(directory, 'config.json'), JSON.stringify(config));
  const { architecture, base } = architectureOf(config);
  const shapes = Object.entries(architecture.tensors(architecture.readConfig(config, base)));
  const zeros = shapes.map(
    ([name, shape]) => [name, { dtype: 'F32', shape, data: new Float32Array(sizeOf(shape)) }] as const,
  );
  await writeSafetensors(join(directory, 'model.safetensors'), Object.fromEntries(zeros));
  return openModel(directory);
}

type Deep = Awaited<ReturnType<typeof openDeep>>;
const LENGTH = 256;
const OBJECTIVES: Record<string, (model: Deep) => Objective> = {
  generation,
  preference: model => preference(model, 0.1),
  answering: model => answering(requireEncoderDecoder(model), { source: 1, answer: 0.5 }),
};

const graphOf = (trained: TrainedModel): Graph =>
  PASSES.reduce((graph, pass) => pass(graph), trace(gradientProgram(trained, { rows: 1, length: LENGTH })));

const peakOf = (graph: Graph): number => peakBytes(graph, onnxRuntimeOrder(graph));

const positions = { n_positions: LENGTH, max_position_embeddings: LENGTH };

test.each([
  ['gpt2', { n_layer: 10, ...positions }, 'generation', 'lora'],
  ['gpt2', { n_layer: 10, ...positions }, 'generation', 'full'],
  ['llama3', { num_hidden_layers: 10, ...positions }, 'preference', 'lora'],
  ['t5', { num_layers: 6, num_decoder_layers: 6 }, 'answering', 'lora'],
  ['bart', { encoder_layers: 6, decoder_layers: 6, ...positions }, 'answering', 'lora'],
] as const)(
  '%s with %j has less than half of the activations at a time (%s, %s)',
  async (name, changes, objectiveName, kind) => {
    const model = await openDeep(name, changes as Record<string, number>);
    const objective = OBJECTIVES[objectiveName]!(model);
    const tuning: Tuning =
      kind === 'full' ? { kind } : { kind, layers: model.linearLayers, rank: 4, alpha: 8, dropout: 0.1 };
    const trained = { model, tuning, objective, state: stateLayoutOf(model, tuning, objective) };
    const kept = graphOf(trained);
    const again = graphOf({ ...trained, gradientCheckpointing: true });
    expect(again.nodes.length).toBeLessThan(2 * kept.nodes.length);
    expect(peakOf(again)).toBeLessThan(peakOf(kept) / 2);
  },
);

test('a run says that it did so, and has the losses of the run that did not', async () => {
  const spec = (gradient_checkpointing: boolean) =>
    toySpec({ engine: 'onnx', hyperparameters: { dropout: 0.1, gradient_checkpointing } });
  const [kept, again] = [await collect(spec(false)), await collect(spec(true))];
  const losses = (events: typeof kept) => eventsOf(events, 'step').map(({ metrics }) => metrics);
  expect(losses(again)).toEqual(losses(kept));
  expect(eventsOf(again, 'prepared')[0]!.hyperparameters.gradient_checkpointing).toBe(true);
  expect(eventsOf(again, 'finished')[0]!.manifest.hyperparameters).toMatchObject({
    gradient_checkpointing: true,
  });
});
