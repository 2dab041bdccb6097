// API schemas of workers, an extension of the OpenAI API.
import { type Static, Type } from 'typebox';
import type { Runner } from '../store/runners.ts';
import { unixSeconds } from './lists.ts';

const bytes = (description: string) => Type.Integer({ minimum: 0, description });

export const OrganizationRunner = Type.Object(
  {
    object: Type.Literal('organization.runner'),
    id: Type.String(),
    host: Type.String({ description: 'Name of its machine.' }),
    hardware: Type.String({ description: 'The processor with its cores, or the accelerator.' }),
    engine: Type.String(),
    device: Type.String({ description: '`cpu`, `cuda` or `webgpu`; `auto` until it was measured.' }),
    threads: Type.Integer(),
    memory_bytes: bytes('Memory of the machine, or of its control group.'),
    free_memory_bytes: bytes('Free memory when it last trained nothing.'),
    memory_budget_bytes: Type.Union([Type.Integer(), Type.Null()], {
      description: 'Limit for training by `ANNEAL_MEMORY_GB`; null: most of the free memory.',
    }),
    flops_per_second: Type.Union([Type.Number(), Type.Null()], {
      description: 'Speed of matrix products, measured at the start; null until then.',
    }),
    started_at: Type.Integer({ description: 'Unix seconds.' }),
    last_seen_at: Type.Integer({ description: 'Unix seconds.' }),
  },
  { $id: 'OrganizationRunner', description: 'A worker that is alive.' },
);

export const OrganizationRunnerList = Type.Object(
  { object: Type.Literal('list'), data: Type.Array(Type.Ref('OrganizationRunner')) },
  { $id: 'OrganizationRunnerList', description: 'The workers that are alive, oldest first.' },
);

export const runnerToWire = (runner: Runner): Static<typeof OrganizationRunner> => ({
  object: 'organization.runner',
  id: runner.id,
  host: runner.host,
  hardware: runner.hardware,
  engine: runner.engine,
  device: runner.device,
  threads: runner.threads,
  memory_bytes: runner.memoryBytes,
  free_memory_bytes: runner.freeBytes,
  memory_budget_bytes: runner.memoryBudgetBytes,
  flops_per_second: runner.flopsPerSecond,
  started_at: unixSeconds(runner.startedAt),
  last_seen_at: unixSeconds(runner.seenAt),
});

export const exampleRunners = {
  object: 'list',
  data: [
    {
      object: 'organization.runner',
      id: 'gpu-1.4711.1700000000000.0a1b2c3d',
      host: 'gpu-1',
      hardware: 'AMD EPYC 9354 (32)',
      engine: 'onnx',
      device: 'cpu',
      threads: 32,
      memory_bytes: 270_000_000_000,
      free_memory_bytes: 240_000_000_000,
      memory_budget_bytes: null,
      flops_per_second: 1.2e12,
      started_at: 1700000000,
      last_seen_at: 1700000100,
    },
  ],
} satisfies Static<typeof OrganizationRunnerList>;
