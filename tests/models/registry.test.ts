// Opening model folders: what is read from them, and how each kind of broken folder is refused.
import { readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readTensor } from '../../src/formats/safetensors.ts';
import { openModel } from '../../src/models/registry.ts';
import { changeJson, changeTensors, copyGolden, temporaryFolder } from './folders.ts';
import { goldenDirectory } from './golden.ts';
import { recordWindows } from './windows.ts';

describe('a folder that fits', () => {
  test('says its shape and its parts', async () => {
    const model = await openModel(goldenDirectory('qwen3'));
    expect(model.architecture).toBe('llama');
    expect(model.shape).toEqual({
      layers: 2,
      hiddenSize: 32,
      heads: 4,
      kvHeads: 2,
      headDim: 16,
      vocabSize: 96,
      maxPositions: 64,
    });
    expect(model.outputWeight).toBe('model.embed_tokens.weight');
    expect(model.linearLayers.map(({ name }) => name).slice(0, 7)).toEqual(
      [
        'self_attn.q_proj',
        'self_attn.k_proj',
        'self_attn.v_proj',
        'self_attn.o_proj',
        'mlp.gate_proj',
        'mlp.up_proj',
        'mlp.down_proj',
      ].map(name => `model.layers.0.${name}`),
    );
    expect(model.linearLayers[0]).toEqual({
      name: 'model.layers.0.self_attn.q_proj',
      weight: 'model.layers.0.self_attn.q_proj.weight',
      bias: null,
      inFeatures: 32,
      outFeatures: 64,
      transposed: false,
    });
    // Embedding, then per layer 2 norms, 2 head norms, q 32x64, k and v 32x32 each, o 64x32, three of 32x48; the last norm.
    const layer = 2 * 32 + 2 * 16 + 32 * 64 + 2 * 32 * 32 + 64 * 32 + 3 * 32 * 48;
    expect(model.parameters).toBe(96 * 32 + 2 * layer + 32);
  });

  test('gives the generation config', async () => {
    const model = await openModel(goldenDirectory('llama-tiny'));
    expect(model.generationConfig.eos_token_id).toEqual([2, 0]);
  });

  test('of shards holds the tensors of all of them', async () => {
    const model = await openModel(goldenDirectory('llama-bf16-sharded'));
    const files = new Set(Object.values(model.weights).map(({ file }) => basename(file)));
    expect([...files].sort()).toEqual([
      'model-00001-of-00003.safetensors',
      'model-00002-of-00003.safetensors',
      'model-00003-of-00003.safetensors',
    ]);
    expect(model.weights['model.norm.weight']!.dtype).toBe('BF16');
  });

  test('of the published GPT-2 gets transformers names, without its mask buffers', async () => {
    const model = await openModel(goldenDirectory('gpt2'));
    expect(Object.keys(model.weights)).toContain('transformer.h.1.attn.c_attn.bias');
    expect(Object.keys(model.weights).filter(name => /attn\.bias$/.test(name))).toEqual([
      'transformer.h.0.attn.c_attn.bias',
      'transformer.h.1.attn.c_attn.bias',
    ]);
  });

  test.each([
    ['llama3', 'model.embed_tokens.weight'],
    ['gpt2', 'wte.weight'],
  ])('of a tied model (%s) may hold the shared tensor under either name or both', async (name, embedding) => {
    const both = await copyGolden(name);
    await changeTensors(join(both, 'model.safetensors'), tensors => {
      tensors['lm_head.weight'] = tensors[embedding]!;
    });
    const head = await copyGolden(name);
    await changeTensors(join(head, 'model.safetensors'), tensors => {
      tensors['lm_head.weight'] = tensors[embedding]!;
      delete tensors[embedding];
    });
    const original = await openModel(goldenDirectory(name));
    for (const directory of [both, head]) {
      const { weights, outputWeight } = await openModel(directory);
      expect(Object.keys(weights)).toEqual(Object.keys(original.weights));
      expect(await readTensor(weights[outputWeight!]!)).toEqual(
        await readTensor(original.weights[outputWeight!]!),
      );
    }
  });

  test('with LongRoPE has the positions of its pre-training', async () => {
    const model = await openModel(goldenDirectory('phi3-longrope'));
    expect(model.config.max_position_embeddings).toBe(64);
    expect(model.shape.maxPositions).toBe(32);
  });

  test('of GPT-NeoX may spell its output as transformers 5 does in memory', async () => {
    const directory = await copyGolden('gpt-neox');
    await changeTensors(join(directory, 'model.safetensors'), tensors => {
      tensors['lm_head.weight'] = tensors['embed_out.weight']!;
      delete tensors['embed_out.weight'];
    });
    expect((await openModel(directory)).weights['embed_out.weight']!.shape).toEqual([96, 32]);
  });

  test('has weights that read as their file says', async () => {
    const model = await openModel(goldenDirectory('llama-f16'));
    const norm = await readTensor(model.weights['model.norm.weight']!);
    expect(norm).toHaveLength(32);
    expect(norm.every(value => value > 0.5 && value < 1.5)).toBe(true);
  });
});

describe('a folder that is refused', () => {
  const refusal = async (directory: string): Promise<string> => {
    const error = await openModel(directory).catch(error => error);
    expect(error).toMatchObject({ name: 'ModelError' });
    return (error as Error).message.replace(directory, '<folder>');
  };
  const withConfig = async (name: string, change: Record<string, unknown>): Promise<string> => {
    const directory = await copyGolden(name);
    await changeJson(join(directory, 'config.json'), change);
    return refusal(directory);
  };
  const withTensors = async (name: string, change: Parameters<typeof changeTensors>[1]): Promise<string> => {
    const directory = await copyGolden(name);
    await changeTensors(join(directory, 'model.safetensors'), change);
    return refusal(directory);
  };

  test('no config.json', async () => {
    expect(await refusal(await temporaryFolder())).toContain('no config.json');
  });

  test('a config.json that is not JSON', async () => {
    const directory = await copyGolden('llama3');
    await writeFile(join(directory, 'config.json'), '{');
    expect(await refusal(directory)).toBe('<folder>/config.json is not JSON');
  });

  test('no weights, or weights in another form', async () => {
    const directory = await copyGolden('llama3');
    await rm(join(directory, 'model.safetensors'));
    expect(await refusal(directory)).toContain('neither model.safetensors nor model.safetensors.index.json');
  });

  test('an architecture that is not known', async () => {
    const message = await withConfig('llama3', { architectures: ['GemmaForCausalLM'] });
    const [said, known] = message.split('; known are ');
    expect(said).toBe('config.json: architectures GemmaForCausalLM');
    expect(known!.split(', ')).toEqual(
      expect.arrayContaining(['LlamaForCausalLM', 'GPT2LMHeadModel', 'BertModel', 'RobertaForMaskedLM']),
    );
    expect(await withConfig('llama3', { architectures: null })).toContain('none (model_type "llama")');
  });

  test('every architecture that is known is in docs/models.md', async () => {
    const known = (await withConfig('llama3', { architectures: null })).split('known are ')[1]!.split(', ');
    const page = await readFile(join(import.meta.dirname, '../../docs/models.md'), 'utf8');
    expect(known.filter(name => !page.includes(`\`${name}\``))).toEqual([]);
  });

  test('every architecture of docs/models.md is in the README', async () => {
    const read = (name: string) => readFile(join(import.meta.dirname, '../..', name), 'utf8');
    const architecturesIn = (page: string) =>
      [...page.matchAll(/^\| `([a-z0-9-]+)` \|.*\| /gm)].map(([, name]) => name);
    const [page, readme] = [await read('docs/models.md'), await read('README.md')];
    const table = page.slice(0, page.indexOf('\n## '));
    expect(architecturesIn(table).length).toBeGreaterThan(10);
    expect(architecturesIn(readme).toSorted()).toEqual(architecturesIn(table).toSorted());
  });

  test('a missing tensor', async () => {
    const message = await withTensors('llama3', tensors => {
      delete tensors['model.layers.1.mlp.up_proj.weight'];
    });
    expect(message).toBe('<folder> lacks model.layers.1.mlp.up_proj.weight as F32, F16 or BF16');
  });

  test('a missing output projection of an untied model', async () => {
    const message = await withTensors('llama2', tensors => {
      delete tensors['lm_head.weight'];
    });
    expect(message).toContain('lacks lm_head.weight');
  });

  test('a tensor that the architecture does not have', async () => {
    const message = await withTensors('llama3', tensors => {
      tensors['model.layers.0.self_attn.q_proj.bias'] = {
        dtype: 'F32',
        shape: [32],
        data: new Float32Array(32),
      };
    });
    expect(message).toBe('<folder> has model.layers.0.self_attn.q_proj.bias which llama does not know');
  });

  test('a tied model with two different tensors', async () => {
    const message = await withTensors('llama3', tensors => {
      tensors['lm_head.weight'] = { dtype: 'F32', shape: [96, 32], data: new Float32Array(96 * 32) };
    });
    expect(message).toBe(
      '<folder> has a lm_head.weight that differs from model.embed_tokens.weight, ' +
        'but its config.json ties them (tie_word_embeddings)',
    );
  });

  test('a tensor of another shape', async () => {
    const message = await withConfig('llama3', { intermediate_size: 64 });
    expect(message).toContain('model.layers.0.mlp.gate_proj.weight [48,32] instead of [64,32]');
  });

  test('a shard that lacks what the index says', async () => {
    const directory = await copyGolden('llama-bf16-sharded');
    await changeTensors(join(directory, 'model-00002-of-00003.safetensors'), tensors => {
      delete tensors['model.norm.weight'];
    });
    expect(await refusal(directory)).toContain(
      "'model.norm.weight' is not in model-00002-of-00003.safetensors",
    );
  });

  test('a shard that is not there', async () => {
    const directory = await copyGolden('llama-bf16-sharded');
    await rm(join(directory, 'model-00002-of-00003.safetensors'));
    expect(await refusal(directory)).toContain('no such file');
  });

  test('weights that were cut off while downloading', async () => {
    const directory = await copyGolden('llama3');
    await truncate(join(directory, 'model.safetensors'), 50_000);
    expect(await refusal(directory)).toContain('lies outside the file');
  });

  test.each([
    [{ hidden_act: 'gelu' }, 'hidden_act must be one of silu, swish, not "gelu"'],
    [{ hidden_size: undefined }, 'config.json lacks hidden_size'],
    [{ hidden_size: '32' }, 'hidden_size must be a positive integer, not "32"'],
    [{ num_key_value_heads: 3 }, 'num_attention_heads 4 is no multiple of num_key_value_heads 3'],
    [
      { rope_parameters: { rope_type: 'yarn', factor: 4 } },
      'rope_type must be one of default, linear, llama3',
    ],
    [{ rope_scaling: { type: 'dynamic', factor: 2 } }, 'not "dynamic"'],
    [
      { rope_parameters: { full_attention: { rope_type: 'default' } } },
      'rope_parameters per layer type (full_attention) are not supported',
    ],
    [{ partial_rotary_factor: 0.5 }, 'partial_rotary_factor 0.5 is not supported'],
    [{ quantization_config: { quant_method: 'gptq' } }, 'quantization_config'],
  ])('a config that asks for %j', async (change, message) => {
    expect(await withConfig('llama3', change)).toContain(message);
  });

  test.each([
    ['gpt-neox', { hidden_size: 30 }, 'hidden_size 30 is no multiple of num_attention_heads 4'],
    ['gpt-neox', { rotary_pct: 0.4 }, 'partial_rotary_factor turns 3 of 8 elements of a head'],
    ['gpt-neox', { hidden_act: 'mish' }, 'hidden_act must be one of gelu, gelu_new'],
    ['falcon-7b', { alibi: true }, 'alibi true is not supported'],
    ['falcon-40b', { num_kv_heads: 3 }, 'num_kv_heads 3 do not divide'],
    ['mixtral', { num_experts_per_tok: 9 }, 'num_experts_per_tok 9 of num_local_experts 4'],
    ['gemma2', { use_bidirectional_attention: true }, 'use_bidirectional_attention true is not supported'],
    [
      'gemma2',
      { layer_types: ['full_attention', 'chunked_attention'] },
      'layer_types must have 2 entries out of',
    ],
    ['gemma3', { attn_logit_softcapping: 50 }, 'attn_logit_softcapping 50 is not supported'],
    [
      'phi3',
      { rope_parameters: { rope_type: 'yarn' } },
      'rope_type must be one of default, longrope, not "yarn"',
    ],
    [
      'phi3-longrope',
      { rope_parameters: { rope_type: 'longrope', short_factor: [1] } },
      'short_factor of longrope has only 1 entries',
    ],
    [
      'phi3-longrope',
      { rope_parameters: { rope_type: 'longrope' } },
      'short_factor of longrope must be a list',
    ],
    ['cohere', { num_key_value_heads: 3 }, 'num_attention_heads 4 is no multiple of num_key_value_heads 3'],
    ['t5', { feed_forward_proj: 'gated-mish' }, 'feed_forward_proj must be one of gelu, gated-gelu'],
    ['t5', { is_encoder_decoder: false }, 'is_encoder_decoder false is not supported for t5'],
    ['llama3', { is_encoder_decoder: true }, 'is_encoder_decoder true is not supported for llama'],
    ['bart', { decoder_attention_heads: 5 }, 'd_model 32 is no multiple of decoder_attention_heads 5'],
    ['bart', { normalize_before: true }, 'normalize_before true is not supported'],
    ['bart', { activation_function: 'mish' }, 'activation_function must be one of'],
    ['marian', { static_position_embeddings: false }, 'static_position_embeddings false is not supported'],
    ['marian', { normalize_embedding: true }, 'normalize_embedding true is not supported'],
  ])('a config of %s that asks for %j', async (name, change, message) => {
    expect(await withConfig(name, change)).toContain(message);
  });

  test('a GPT-2 with another activation', async () => {
    expect(await withConfig('gpt2', { activation_function: 'relu' })).toContain('activation_function');
  });
});

describe('sliding windows', () => {
  const windows = async (name: string, change: Record<string, unknown>): Promise<(number | null)[]> => {
    const directory = await copyGolden(name);
    await changeJson(join(directory, 'config.json'), change);
    const seen: (number | null)[] = [];
    recordWindows(await openModel(directory), window => seen.push(window));
    return seen;
  };

  test.each([
    ['mistral', {}, [6, 6]],
    ['mistral', { sliding_window: null }, [null, null]],
    ['qwen2', {}, [null, 5]],
    ['qwen2', { layer_types: undefined }, [null, 5]],
    ['qwen2', { layer_types: undefined, max_window_layers: 0 }, [5, 5]],
    ['qwen2', { layer_types: undefined, max_window_layers: undefined }, [null, null]],
    ['qwen2', { use_sliding_window: false }, [null, null]],
    [
      'qwen3',
      { use_sliding_window: true, sliding_window: 7, layer_types: undefined, max_window_layers: 1 },
      [null, 7],
    ],
    ['llama3', { sliding_window: 3 }, [null, null]],
    ['mixtral', {}, [6, 6]],
    ['mixtral', { sliding_window: null }, [null, null]],
    ['phi3', {}, [6, 6]],
    ['gemma2', {}, [6, null]],
    ['gemma2', { layer_types: undefined }, [6, null]],
    ['gemma3', {}, [6, null]],
    ['gemma3', { sliding_window_pattern: undefined }, [6, 6]],
    ['gemma3', { layer_types: ['full_attention', 'sliding_attention'] }, [null, 6]],
  ])('of %s with %j', async (name, change, expected) => {
    expect(await windows(name, change)).toEqual(expected);
  });
});
