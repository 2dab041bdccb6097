// Every 'auto' as a number, and every refusal by name.
import { describe, expect, it } from 'vitest';
import { DpoHyperparameters, ReinforcementHyperparameters } from '../../src/schemas/jobs.ts';
import { TrainingFailure } from '../../src/training/failure.ts';
import {
  automaticBatchSize,
  automaticEpochs,
  baseLearningRate,
  type Circumstances,
  hyperparameterLimits,
  resolveHyperparameters,
} from '../../src/training/hyperparameters.ts';
import type { RequestedHyperparameters } from '../../src/training/protocol.ts';

const linear = (name: string) => ({
  name,
  weight: `${name}.weight`,
  bias: null,
  inFeatures: 8,
  outFeatures: 8,
  transposed: false,
});

const circumstances: Circumstances = {
  model: {
    shape: {
      layers: 1,
      hiddenSize: 1024,
      heads: 1,
      kvHeads: 1,
      headDim: 8,
      vocabSize: 96,
      maxPositions: 512,
    },
    linearLayers: [linear('layers.0.q_proj'), linear('layers.0.v_proj'), linear('layers.1.q_proj')],
  },
  examples: 200,
  start: null,
};

const resolve = (requested: RequestedHyperparameters, changes: Partial<Circumstances> = {}) =>
  resolveHyperparameters(requested, { ...circumstances, ...changes });

function failureOf(work: () => unknown): TrainingFailure {
  try {
    work();
  } catch (error) {
    if (error instanceof TrainingFailure) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('auto', () => {
  it.each([
    [1, 25],
    [4, 25],
    [5, 20],
    [10, 10],
    [33, 3],
    [34, 3],
    [100, 3],
    [8333, 3],
    [8334, 2],
    [12_501, 1],
    [1_000_000, 1],
  ])('n_epochs for %i examples is %i', (examples, epochs) => {
    expect(automaticEpochs(examples)).toBe(epochs);
  });

  it.each([
    [1, 1],
    [10, 1],
    [50, 2],
    [100, 4],
    [600, 4],
    [1000, 4],
    [5000, 10],
    [1_000_000, 256],
  ])('batch_size for %i examples is %i', (examples, size) => {
    expect(automaticBatchSize(examples)).toBe(size);
  });

  it('base learning rates fall with the width, and are ten times smaller for full fine-tuning', () => {
    expect(baseLearningRate('lora', 192)).toBe(2e-3);
    expect(baseLearningRate('lora', 1024)).toBeCloseTo(8e-4, 10);
    expect(baseLearningRate('lora', 8192)).toBe(2e-4);
    expect(baseLearningRate('full', 4096)).toBeCloseTo(2e-5, 10);
  });

  it('resolves nothing at all to good defaults', () => {
    expect(resolve({ n_epochs: 'auto', batch_size: 'auto', learning_rate_multiplier: 'auto' })).toEqual({
      n_epochs: 3,
      batch_size: 4,
      learning_rate_multiplier: 1,
      adapter: 'lora',
      rank: 16,
      alpha: 32,
      dropout: 0,
      target_modules: ['q_proj', 'v_proj'],
      learning_rate: baseLearningRate('lora', 1024),
      weight_decay: 0.01,
      warmup_ratio: 0.05,
      schedule: 'cosine',
      max_grad_norm: 1,
      max_length: 512,
      quantization: 'none',
      gradient_checkpointing: false,
    });
    expect(resolve({})).toEqual(resolve({ n_epochs: 'auto' }));
  });

  it('multiplies the base learning rate, or takes the rate itself', () => {
    expect(resolve({ learning_rate_multiplier: 2 }).learning_rate).toBeCloseTo(1.6e-3, 10);
    const own = resolve({ learning_rate: 4e-4 });
    expect([own.learning_rate, own.learning_rate_multiplier]).toEqual([4e-4, 0.5]);
  });

  it('keeps a batch within the file', () => {
    expect(resolve({ batch_size: 256 }).batch_size).toBe(200);
  });
});

describe('refusals', () => {
  it.each([
    [{ n_epochs: 0 }, 'n_epochs', 'n_epochs must be an integer from 1 to 50; it is 0'],
    [{ n_epochs: 2.5 }, 'n_epochs', 'n_epochs must be an integer from 1 to 50; it is 2.5'],
    [{ batch_size: 257 }, 'batch_size', 'batch_size must be an integer from 1 to 256; it is 257'],
    [
      { learning_rate_multiplier: 0 },
      'learning_rate_multiplier',
      'learning_rate_multiplier must be a number above 0 and at most 1000; it is 0',
    ],
    [{ dropout: 1 }, 'dropout', 'dropout must be a number from 0 to 0.9; it is 1'],
    [{ rank: '8' as never }, 'rank', 'rank must be an integer from 1 to 256; it is "8"'],
    [{ max_length: 513 }, 'max_length', 'max_length is 513, but the model has 512 positions'],
    [
      { learning_rate: 1e-4, learning_rate_multiplier: 2 },
      'learning_rate',
      'learning_rate and learning_rate_multiplier exclude each other: give one',
    ],
    [
      { schedule: 'step' as never },
      'schedule',
      'schedule must be one of cosine, linear, constant; it is "step"',
    ],
    [
      { quantization: 'int2' as never },
      'quantization',
      'quantization must be one of none, int16, int8, int4, nf4; it is "int2"',
    ],
    [
      { quantization: 'int8', adapter: 'full' },
      'quantization',
      "quantization 'int8' is for weights that stay as they are; adapter 'full' trains all",
    ],
    [
      { gradient_checkpointing: 'yes' as never },
      'gradient_checkpointing',
      'gradient_checkpointing must be one of false, true; it is "yes"',
    ],
  ] satisfies [RequestedHyperparameters, string, string][])('%j names %s', (requested, name, message) => {
    const failure = failureOf(() => resolve(requested));
    expect(failure.code).toBe('invalid_hyperparameters');
    expect(failure.param).toBe(`.hyperparameters.${name}`);
    expect(failure.message).toBe(message);
  });

  it('names the modules there are when a target matches none', () => {
    const failure = failureOf(() => resolve({ target_modules: ['wq'] }));
    expect(failure.message).toContain('wq');
    expect(failure.message).toContain('q_proj, v_proj');
  });
});

describe('going on from an adapter', () => {
  const start = { rank: 8, alpha: 32, targetModules: ['q_proj'] };

  it('takes its shape where none is asked for, and accepts the same said aloud', () => {
    const resolved = resolve({}, { start });
    expect([resolved.rank, resolved.alpha, resolved.target_modules]).toEqual([8, 32, ['q_proj']]);
    expect(resolve({ rank: 8, alpha: 32, target_modules: ['q_proj'] }, { start })).toEqual(resolved);
  });

  it.each([
    [{ rank: 16 }, 'rank'],
    [{ alpha: 8 }, 'alpha'],
    [{ target_modules: 'all-linear' }, 'target_modules'],
    [{ adapter: 'full' }, 'adapter'],
  ] satisfies [RequestedHyperparameters, string][])('refuses %j', (requested, name) => {
    const failure = failureOf(() => resolve(requested, { start }));
    expect(failure.param).toBe(`.hyperparameters.${name}`);
  });
});

describe('the request names the ranges that the trainer holds it to', () => {
  interface Range {
    minimum?: number;
    exclusiveMinimum?: number;
    maximum?: number;
    type?: string;
    anyOf?: Range[];
  }
  const properties = {
    ...DpoHyperparameters.properties,
    ...ReinforcementHyperparameters.properties,
  } as unknown as Record<string, Range>;

  it.each(Object.entries(hyperparameterLimits))('%s', (name, limit) => {
    const found = properties[name]!;
    const number = found.anyOf?.find(({ type }) => type === 'number' || type === 'integer') ?? found;
    expect({
      minimum: number.exclusiveMinimum ?? number.minimum,
      maximum: number.maximum,
      above: number.exclusiveMinimum !== undefined,
      integer: number.type === 'integer',
    }).toEqual({ above: false, integer: false, ...limit });
  });
});
