// Configs as well known models publish them: the same tensors, parameter counts and rotary frequencies as in transformers.
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { architectureOf } from '../../src/models/registry.ts';
import { readRope } from '../../src/models/rope.ts';
import { goldenDirectory } from './golden.ts';

interface Published {
  config: Record<string, unknown>;
  parameters: number;
  /** Those outside the layers, and of the layers the first one's. */
  tensors: Record<string, number[]>;
  frequencies?: number[];
}

const published: [string, Published][] = Object.entries(
  JSON.parse(readFileSync(goldenDirectory('published.json'), 'utf8')),
);

test.each(published)(
  '%s has the tensors that transformers gives it',
  (_, { config, parameters, tensors }) => {
    const { architecture, served } = architectureOf(config);
    const ours = architecture.tensors(architecture.readConfig(config, served));
    const firstOnly = Object.entries(ours).filter(([name]) => !/\.[1-9]\d*\./.test(name));
    expect(Object.fromEntries(firstOnly)).toEqual(tensors);
    const sizes = Object.values(ours).map(shape => shape.reduce((size, length) => size * length, 1));
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(parameters);
  },
);

const rotary = published.filter(([, { frequencies }]) => frequencies);

test.each(rotary)('%s turns as fast as in transformers', (_, { config, frequencies }) => {
  const ours = readRope(config, frequencies!.length * 2).frequencies;
  expect(ours).toHaveLength(frequencies!.length);
  // float32 in both, whose powers differ in the last bit or two.
  const errors = frequencies!.map((theirs, i) => Math.abs(ours[i]! / theirs - 1));
  expect(Math.max(...errors)).toBeLessThan(3e-7);
});
