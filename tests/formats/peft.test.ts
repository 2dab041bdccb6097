// PEFT folders: what we write is read back, what PEFT wrote is read, what would compute something else is refused, and,
// where ANNEAL_TEST_PYTHON names a Python with peft, that PEFT computes the same logits with what we wrote.
import { execFile } from 'node:child_process';
import { readFile, rm, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { openCpuEngine } from '../../src/engine/cpu.ts';
import { type Adapter, readAdapter, writeAdapter } from '../../src/formats/peft.ts';
import { readHeader } from '../../src/formats/safetensors.ts';
import { loraShapes, selectLayers } from '../../src/models/lora.ts';
import { type Model, openModel } from '../../src/models/registry.ts';
import { changeJson, changeTensors, copyGolden, temporaryFolder } from '../models/folders.ts';
import { type Batch, goldenDirectory, runHidden, runLogits } from '../models/golden.ts';

const python = process.env.ANNEAL_TEST_PYTHON;

const RANK = 3;

/** Numbers that differ everywhere, away from zero. */
const wave = (length: number, from: number): Float32Array =>
  Float32Array.from({ length }, (_, i) => 0.3 * Math.sin(from + 1.7 * i));

function invented(model: Model, targets: readonly string[] | 'all-linear'): Adapter['layers'] {
  const pairs = selectLayers(model.linearLayers, targets).map((layer, i) => {
    const { a, b } = loraShapes(layer, RANK);
    return [layer.name, { a: wave(a[0] * a[1], i), b: wave(b[0] * b[1], i + 0.5) }] as const;
  });
  return Object.fromEntries(pairs);
}

async function writeInvented(directory: string, name: string, targets: readonly string[] | 'all-linear') {
  const model = await openModel(goldenDirectory(name));
  const layers = invented(model, targets);
  await writeAdapter(directory, {
    rank: RANK,
    alpha: 7,
    dropout: 0.1,
    baseModel: name,
    kind: model.kind,
    linearLayers: model.linearLayers,
    layers,
  });
  return { model, layers };
}

describe('an adapter we wrote', () => {
  test('is read back as it was', async () => {
    const directory = await temporaryFolder();
    const { model, layers } = await writeInvented(directory, 'gpt2', ['c_attn', 'c_fc']);
    expect(await readAdapter(directory, model.linearLayers)).toEqual({
      rank: RANK,
      alpha: 7,
      scale: 7 / 3,
      dropout: 0.1,
      baseModel: 'gpt2',
      layers,
    });
  });

  test.each([
    ['llama3', 'all-linear', false],
    ['gpt2', 'all-linear', true],
    ['gpt-neox', 'all-linear', false],
    ['falcon-40b', 'all-linear', false],
    ['mixtral', 'all-linear', false],
    ['gemma3', 'all-linear', false],
    ['phi3', 'all-linear', false],
    ['cohere', 'all-linear', false],
    ['t5', 'all-linear', false],
    ['t5-v1.1', 'all-linear', false],
    ['bart', 'all-linear', false],
    ['marian', 'all-linear', false],
  ] as const)(
    'of %s has the tensors that PEFT gives it, with the same shapes',
    async (name, targets, transposed) => {
      const directory = await temporaryFolder();
      await writeInvented(directory, name, targets);
      const shapes = async (folder: string) => {
        const { tensors } = await readHeader(join(folder, 'adapter_model.safetensors'));
        return Object.entries(tensors)
          .map(([tensor, { shape }]) => `${tensor} ${shape.map(size => (size === 4 ? RANK : size))}`)
          .sort();
      };
      expect(await shapes(directory)).toEqual(await shapes(join(goldenDirectory(name), 'adapter')));
      const config = JSON.parse(await readFile(join(directory, 'adapter_config.json'), 'utf8'));
      const theirs = JSON.parse(
        await readFile(join(goldenDirectory(name), 'adapter/adapter_config.json'), 'utf8'),
      );
      expect(config).toMatchObject({
        peft_type: 'LORA',
        task_type: theirs.task_type,
        fan_in_fan_out: transposed,
      });
    },
  );

  test('names modules where that says enough, and single layers otherwise', async () => {
    const directory = await temporaryFolder();
    const targets = async (given: readonly string[] | 'all-linear'): Promise<string[]> => {
      await writeInvented(directory, 'llama3', given);
      return JSON.parse(await readFile(join(directory, 'adapter_config.json'), 'utf8')).target_modules;
    };
    expect(await targets(['q_proj', 'v_proj'])).toEqual(['q_proj', 'v_proj']);
    expect(await targets(['1.self_attn.q_proj'])).toEqual(['model.layers.1.self_attn.q_proj']);
  });

  test.skipIf(!python).each([
    ['llama3', 'all-linear'],
    ['gpt2', 'all-linear'],
    ['qwen2', ['q_proj', 'down_proj']],
    ['mistral', ['1.self_attn.q_proj', 'v_proj']],
    ['llama-tiny', 'all-linear'],
    ['gpt2-tiny', ['c_proj']],
    ['gpt-neox', 'all-linear'],
    ['falcon-7b', 'all-linear'],
    ['falcon-40b', ['query_key_value', 'dense']],
    ['mixtral', 'all-linear'],
    ['gemma2', 'all-linear'],
    ['gemma3', ['q_proj', 'gate_proj']],
    ['phi3', 'all-linear'],
    ['phi3-longrope', ['gate_up_proj']],
    ['cohere', 'all-linear'],
    ['cohere-normed', ['k_proj', 'down_proj']],
    ['t5', 'all-linear'],
    ['t5-v1.1', ['q', 'wi_0']],
    ['bart', 'all-linear'],
    ['marian', ['k_proj', 'fc2']],
    ['bert', 'all-linear'],
    ['roberta', ['query', 'dense']],
    ['distilbert', 'all-linear'],
    ['modernbert', 'all-linear'],
  ] as const)(
    'of %s on %s gives PEFT the same logits, or hidden states',
    async (name, targets) => {
      const directory = await temporaryFolder();
      const { model } = await writeInvented(directory, name, targets);
      const tokens = Array.from({ length: 12 }, (_, i) => (7 * i + 3) % 96);
      const batch = model.kind === 'encoder-decoder' ? answeredBatch(tokens) : plainBatch(tokens);
      const engine = await openCpuEngine();
      const run = model.kind === 'encoder' ? runHidden : runLogits;
      const ours = await run(engine, model, batch, await readAdapter(directory, model.linearLayers));
      const theirs = await peftLogits(goldenDirectory(name), directory, batch);
      expect(theirs).toHaveLength(ours.length);
      expect(Math.max(...ours.map((value, i) => Math.abs(value - theirs[i]!)))).toBeLessThan(1e-4);
      const plain = await run(engine, model, batch);
      expect(Math.max(...plain.map((value, i) => Math.abs(value - theirs[i]!)))).toBeGreaterThan(0.1);
    },
    120_000,
  );
});

const plainBatch = (tokens: number[]): Batch => ({
  tokens: [tokens],
  positions: [tokens.map((_, i) => i)],
  segments: [tokens.map(() => 0)],
  targets: [tokens.map(() => -1)],
});

/** An answer to the tokens read backwards. */
function answeredBatch(tokens: number[]): Batch {
  const { tokens: read, positions, segments } = plainBatch(tokens.toReversed());
  return {
    ...plainBatch(tokens),
    sourceTokens: read,
    sourcePositions: positions,
    sourceSegments: segments,
  };
}

async function peftLogits(
  model: string,
  adapter: string,
  { tokens, sourceTokens }: Batch,
): Promise<number[]> {
  const script = join(goldenDirectory('.'), 'peft_logits.py');
  const texts = [tokens, ...(sourceTokens ? [sourceTokens] : [])].map(rows => JSON.stringify(rows));
  const { stdout } = await promisify(execFile)(python!, [script, model, adapter, ...texts], {
    maxBuffer: 1 << 26,
  });
  return (JSON.parse(stdout) as number[][][]).flat(2);
}

describe('an adapter that is read', () => {
  const broken = async (change: (adapter: string) => Promise<unknown>): Promise<string> => {
    const directory = await copyGolden('llama3');
    const adapter = join(directory, 'adapter');
    await change(adapter);
    const { linearLayers } = await openModel(directory);
    const error = await readAdapter(adapter, linearLayers).catch(error => error);
    expect(error).toMatchObject({ name: 'ModelError' });
    return (error as Error).message.replace(adapter, '<adapter>');
  };
  const withConfig = (change: Record<string, unknown>): Promise<string> =>
    broken(adapter => changeJson(join(adapter, 'adapter_config.json'), change));
  const withTensors = (change: Parameters<typeof changeTensors>[1]): Promise<string> =>
    broken(adapter => changeTensors(join(adapter, 'adapter_model.safetensors'), change));
  const A = 'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight';

  test('scales by alpha / sqrt(rank) where it is rank-stabilised', async () => {
    const directory = await copyGolden('llama3');
    await changeJson(join(directory, 'adapter/adapter_config.json'), { use_rslora: true });
    const { linearLayers } = await openModel(directory);
    expect(await readAdapter(join(directory, 'adapter'), linearLayers)).toMatchObject({ alpha: 8, scale: 4 });
  });

  test.each([
    [{ peft_type: 'IA3' }, 'peft_type "IA3"; only "LORA" is supported'],
    [{ use_dora: true }, 'use_dora true is not supported'],
    [{ bias: 'all' }, 'bias "all" is not supported'],
    [{ rank_pattern: { q_proj: 8 } }, 'rank_pattern {"q_proj":8} is not supported'],
    [{ modules_to_save: ['lm_head'] }, 'modules_to_save ["lm_head"] is not supported'],
    [{ r: 0 }, 'r must be a positive number, not 0'],
    [{ lora_alpha: null }, 'lora_alpha must be a positive number, not null'],
  ])('refuses a config with %j', async (change, message) => {
    expect(await withConfig(change)).toContain(message);
  });

  test('refuses folders with a file missing or broken', async () => {
    expect(await broken(adapter => rm(adapter, { recursive: true }))).toContain(
      'adapter_config.json is missing',
    );
    expect(await broken(adapter => unlink(join(adapter, 'adapter_model.safetensors')))).toContain(
      'is missing',
    );
    expect(await broken(adapter => writeFile(join(adapter, 'adapter_config.json'), 'r: 8'))).toContain(
      'is not JSON',
    );
  });

  test('refuses half a pair', async () => {
    expect(await withTensors(tensors => delete tensors[A])).toBe(
      `<adapter>/adapter_model.safetensors lacks ${A}`,
    );
  });

  test('refuses a tensor of another rank than the config says', async () => {
    expect(await withConfig({ r: 8 })).toContain(`${A} is [4,32] instead of [8,32]`);
  });

  test('refuses an adapter of another model', async () => {
    const { linearLayers } = await openModel(goldenDirectory('gpt2'));
    await expect(readAdapter(join(goldenDirectory('llama3'), 'adapter'), linearLayers)).rejects.toThrow(
      'which the model has no place for; adapters may target c_attn, c_proj, c_fc',
    );
  });
});
