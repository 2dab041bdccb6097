// Rotary frequencies from either spelling of a config, and LongRoPE by hand. Published configs are in published.test.ts.
import { expect, test } from 'vitest';
import { readJsonFile } from '../../src/models/json-file.ts';
import { architectureOf } from '../../src/models/registry.ts';
import { readRope } from '../../src/models/rope.ts';
import { goldenDirectory } from './golden.ts';

const LLAMA3 = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 16 };

test.each([
  [
    'llama3',
    { rope_theta: 5e5, rope_scaling: { rope_type: 'llama3', ...LLAMA3 } },
    { rope_parameters: { rope_theta: 5e5, rope_type: 'llama3', ...LLAMA3 } },
  ],
  [
    'gpt-neox',
    { rotary_emb_base: 5e5, rotary_pct: 0.5 },
    { rope_parameters: { rope_theta: 5e5, rope_type: 'default', partial_rotary_factor: 0.5 } },
  ],
  [
    'gemma3',
    { rope_theta: 5e5, rope_local_base_freq: 2e4, rope_scaling: { rope_type: 'linear', factor: 8 } },
    {
      rope_parameters: {
        full_attention: { rope_theta: 5e5, rope_type: 'linear', factor: 8 },
        sliding_attention: { rope_theta: 2e4, rope_type: 'default' },
      },
    },
  ],
])('%s: transformers 4 and 5 spell the same frequencies', async (name, old, now) => {
  const FIELDS = [
    'rope_theta',
    'rope_scaling',
    'rope_parameters',
    'rope_local_base_freq',
    'rotary_emb_base',
    'rotary_pct',
  ];
  const config = Object.entries((await readJsonFile(`${goldenDirectory(name)}/config.json`))!);
  const bare = Object.fromEntries(config.filter(([field]) => !FIELDS.includes(field)));
  const { architecture, served } = architectureOf(bare);
  const turning = (fields: object) => {
    const { rope, ropes } = architecture.readConfig({ ...bare, ...fields }, served) as Record<
      string,
      unknown
    >;
    return { rope, ropes };
  };
  expect(turning(old)).toEqual(turning(now));
  expect(turning(old)).not.toEqual(turning({}));
});

test('LongRoPE divides by the short factors and scales by the length it was stretched to', () => {
  const rope = readRope(
    {
      max_position_embeddings: 4096,
      original_max_position_embeddings: 1024,
      rope_scaling: { type: 'longrope', short_factor: [1, 2], long_factor: [4, 8] },
    },
    4,
    { types: ['longrope'] },
  );
  expect([...rope.frequencies]).toEqual([1, Math.fround(0.005)]);
  expect(rope.scale).toBeCloseTo(Math.sqrt(1 + Math.log(4) / Math.log(1024)), 12);
  expect(rope.limit).toBe(1024);
});
