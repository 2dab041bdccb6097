// What a training step does not compute: gradients of frozen weights, anything backward below the lowest adapter, and all scores at once.
import { expect, test } from 'vitest';
import { crossEntropyChunk } from '../../src/engine/compositions.ts';
import { programFlops } from '../../src/engine/flops.ts';
import type { Value } from '../../src/engine/graph.ts';
import { PASSES } from '../../src/engine/passes.ts';
import { trace } from '../../src/engine/trace.ts';
import { openModel } from '../../src/models/registry.ts';
import { generation } from '../../src/training/objectives/generation.ts';
import { gradientProgram, lossProgram, type TrainedModel } from '../../src/training/programs.ts';
import { stateLayoutOf, type Tuning } from '../../src/training/trainable.ts';
import { golden } from './golden-run.ts';

const RANK = 3;
/** No weight has 23 rows or columns. */
const [TOKENS, SHAPE] = [23, { rows: 1, length: 23 }];
/** The joined layers of these are as wide as their vocabulary. */
const AS_WIDE = ['gpt2', 'gpt-neox', 'phi3'];
const MODELS = 'llama3 mistral qwen3 gpt2 gpt-neox falcon-7b falcon-40b gemma2 phi3 cohere'.split(' ');

/** LoRA on the layers that `chosen` names. */
async function adapted(name: string, chosen: (layer: string) => boolean): Promise<TrainedModel> {
  const model = await openModel(golden(name));
  const objective = generation(model);
  const layers = model.linearLayers.filter(layer => chosen(layer.name));
  const tuning: Tuning = { kind: 'lora', layers, rank: RANK, alpha: 8, dropout: 0 };
  return { model, objective, tuning, state: stateLayoutOf(model, tuning, objective) };
}

/** All that the nodes of a step make. */
function valuesOf(trained: TrainedModel): readonly Value[] {
  const graph = PASSES.reduce((found, pass) => pass(found), trace(gradientProgram(trained, SHAPE)));
  return graph.nodes.flatMap(({ outputs }) => outputs);
}

test.each([
  ['llama3', 'model.layers.1.mlp.down_proj'],
  ['gpt2', 'transformer.h.1.mlp.c_proj'],
  ['gemma2', 'model.layers.1.mlp.down_proj'],
])('%s: with an adapter on the last layer alone, nothing goes back beyond it', async (name, last) => {
  const trained = await adapted(name, layer => layer === last);
  const { inFeatures, outFeatures } = trained.model.linearLayers.find(layer => layer.name === last)!;
  const { hiddenSize, vocabSize } = trained.model.shape;
  // Back from the scores to the last hidden states; then B, what goes into B, and A.
  const backward = 2 * TOKENS * (hiddenSize * vocabSize + RANK * (2 * outFeatures + inFeatures));
  const forward = programFlops(lossProgram(trained, SHAPE));
  expect(programFlops(gradientProgram(trained, SHAPE)) - forward).toBe(backward);
});

test.each(MODELS)('%s: no frozen weight has a gradient', async name => {
  const trained = await adapted(name, () => true);
  const frozen = new Set(
    trained.model.linearLayers.flatMap(({ inFeatures: i, outFeatures: o }) => [`${i},${o}`, `${o},${i}`]),
  );
  const made = valuesOf(trained).filter(({ shape }) => frozen.has(shape.slice(-2).join()));
  expect(made).toEqual([]);
});

test.each(MODELS.filter(name => !AS_WIDE.includes(name)))(
  '%s: the scores of all tokens are nowhere at once',
  async name => {
    const trained = await adapted(name, () => true);
    const { vocabSize } = trained.model.shape;
    expect(valuesOf(trained).filter(({ shape }) => shape.at(-1) === vocabSize)).toEqual([]);
  },
);

test('scores are made for as many rows as 32 MB hold, or for 32', () => {
  expect(crossEntropyChunk(4096, 50_257) * 50_257 * 4).toBeLessThanOrEqual(32 * 2 ** 20);
  expect(crossEntropyChunk(4096, 256_000)).toBe(32);
  expect(crossEntropyChunk(5, 1000)).toBe(5);
});
