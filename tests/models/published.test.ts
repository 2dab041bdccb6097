// Configs as well known models publish them: the same tensors, parameter counts and rotary frequencies as in transformers.
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { architectureOf } from '../../src/models/registry.ts';
import type { Rope } from '../../src/models/rope.ts';
import { goldenDirectory } from './golden.ts';

interface Published {
  config: Record<string, unknown>;
  parameters: number;
  /** Those outside the layers, and of the layers the first one's. */
  tensors: Record<string, number[]>;
  /** By kind of layer, or under `all`. */
  frequencies?: Record<string, number[]>;
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

/** Architectures keep their rotary positions so: one for all layers, or one for each kind. */
interface Turning {
  rope?: Rope;
  ropes?: Record<string, Rope>;
}

test.each(rotary)('%s turns as fast as in transformers', (_, { config, frequencies }) => {
  const { architecture, served } = architectureOf(config);
  const { rope, ropes } = architecture.readConfig(config, served) as Turning;
  for (const [kind, theirs] of Object.entries(frequencies!)) {
    const [ours] = kind === 'all' ? [rope, ...Object.values(ropes ?? {})].filter(Boolean) : [ropes?.[kind]];
    expect(ours?.frequencies).toHaveLength(theirs.length);
    // float32 in both, whose powers differ in the last bit or two.
    const errors = theirs.map((each, i) => Math.abs(ours!.frequencies[i]! / each - 1));
    expect(Math.max(...errors)).toBeLessThan(3e-7);
  }
});
