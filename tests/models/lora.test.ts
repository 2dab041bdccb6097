// LoRA as a function: against products written out by hand, its first values, and which layers a target list means.
import type { Tensor } from '@tensorflow/tfjs';
import { beforeAll, describe, expect, test } from 'vitest';
import { tf } from '../../src/engine/tf.ts';
import type { LinearLayer } from '../../src/models/architecture.ts';
import {
  initialLora,
  loraDelta,
  loraShapes,
  moduleNames,
  project,
  selectLayers,
} from '../../src/models/lora.ts';
import { openModel } from '../../src/models/registry.ts';
import { goldenDirectory } from './golden.ts';

beforeAll(() => void tf.setBackend('cpu'));

const values = (tensor: Tensor): number[] => Array.from(tensor.dataSync());

describe('loraDelta', () => {
  // One row of two tokens with three features; rank 1; two outputs.
  const x = () =>
    tf.tensor3d([
      [
        [1, 2, 3],
        [0, 1, 0],
      ],
    ]);
  const a = [[1, 0, 2]]; // a x = 7, 0
  const b = [[2], [-1]];

  test('is scale * b a x', () => {
    const delta = loraDelta(x(), { a: tf.tensor2d(a), b: tf.tensor2d(b) }, 0.5);
    expect(delta.shape).toEqual([1, 2, 2]);
    expect(values(delta)).toEqual([7, -3.5, 0, 0]);
  });

  test('sees its input through the dropout mask', () => {
    const mask = tf.tensor3d([
      [
        [2, 2, 0],
        [2, 2, 2],
      ],
    ]);
    const delta = loraDelta(x(), { a: tf.tensor2d(a), b: tf.tensor2d(b) }, 1, mask);
    expect(values(delta)).toEqual([4, -2, 0, 0]);
  });
});

test('project multiplies by either layout of a weight', () => {
  const x = tf.tensor3d([[[1, 2]], [[3, 4]]]);
  const weight = tf.tensor2d([
    [1, 0],
    [0, 1],
    [1, 1],
  ]);
  expect(values(project(x, weight))).toEqual([1, 2, 3, 3, 4, 7]);
  expect(values(project(x, tf.transpose(weight), true))).toEqual([1, 2, 3, 3, 4, 7]);
});

const layer = (name: string, inFeatures = 4, outFeatures = 6): LinearLayer => ({
  name,
  weight: `${name}.weight`,
  bias: null,
  inFeatures,
  outFeatures,
  transposed: false,
});

test('first values: a uniform within 1 / sqrt(in), b zero', () => {
  let turn = 0;
  const extremes = () => [0, 1][turn++ % 2]!;
  const { a, b } = initialLora(layer('x'), 2, extremes);
  expect([...a]).toEqual([-0.5, 0.5, -0.5, 0.5, -0.5, 0.5, -0.5, 0.5]);
  expect([...b]).toEqual(Array(12).fill(0));
  expect(loraShapes(layer('x'), 2)).toEqual({ a: [2, 4], b: [6, 2] });
});

describe('target_modules', () => {
  const load = async (name: string) => (await openModel(goldenDirectory(name))).linearLayers;

  test('all-linear is every projection, and not the output projection', async () => {
    const layers = await load('llama2');
    expect(selectLayers(layers, 'all-linear')).toEqual(layers);
    expect(layers.filter(({ name }) => name.includes('lm_head'))).toEqual([]);
  });

  test('are matched at the end of a path, in the order of the model', async () => {
    const layers = await load('llama3');
    expect(selectLayers(layers, ['v_proj', 'q_proj']).map(({ name }) => name)).toEqual([
      'model.layers.0.self_attn.q_proj',
      'model.layers.0.self_attn.v_proj',
      'model.layers.1.self_attn.q_proj',
      'model.layers.1.self_attn.v_proj',
    ]);
    expect(selectLayers(layers, ['1.mlp.up_proj'])).toHaveLength(1);
    expect(selectLayers(layers, ['model.layers.0.mlp.up_proj'])).toHaveLength(1);
  });

  test('c_proj of GPT-2 is both of a layer', async () => {
    const layers = await load('gpt2');
    expect(selectLayers(layers, ['c_proj'])).toHaveLength(4);
    expect(moduleNames(layers)).toEqual(['c_attn', 'c_proj', 'c_fc']);
  });

  test('that match nothing are named, with those that would', async () => {
    const layers = await load('gpt2');
    const known = 'known are c_attn, c_proj, c_fc';
    expect(() => selectLayers(layers, ['q_proj', 'c_fc', 'fc'])).toThrow(
      `target_modules: q_proj, fc matches no layer; ${known}`,
    );
    expect(() => selectLayers(layers, [])).toThrow(`target_modules: is empty; ${known}`);
  });
});
