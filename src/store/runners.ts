// Live workers, and the measured speed of earlier runs by hardware and model. SQL only.
import type { Queryable } from './database.ts';

export interface Runner {
  /** The `runner_id` of the jobs that it leases. */
  id: string;
  host: string;
  /** Name of the CPU with its number of cores, or of the accelerator. */
  hardware: string;
  engine: string;
  device: string;
  threads: number;
  memoryBytes: number;
  /** Free memory when it last ran no training. */
  freeBytes: number;
  memoryBudgetBytes: number | null;
  /** Measured on matrix products; null if not measured. */
  flopsPerSecond: number | null;
  startedAt: Date;
  seenAt: Date;
}

const runnerColumns = `id, host, hardware, engine, device, threads, memory_bytes as "memoryBytes", free_bytes as "freeBytes",
  memory_budget_bytes as "memoryBudgetBytes", flops_per_second as "flopsPerSecond", started_at as "startedAt",
  seen_at as "seenAt"`;

/** Registers a worker as alive for `aliveSeconds`. Its free memory is updated only while it runs no training. */
export async function writeRunner(
  db: Queryable,
  runner: Omit<Runner, 'seenAt'>,
  aliveSeconds: number,
): Promise<void> {
  await db.query(
    `insert into runners (id, host, hardware, engine, device, threads, memory_bytes, free_bytes, memory_budget_bytes,
       flops_per_second, started_at, alive_until)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, now() + make_interval(secs => $12))
     on conflict (id) do update set hardware = excluded.hardware, device = excluded.device,
       flops_per_second = excluded.flops_per_second, seen_at = now(), alive_until = excluded.alive_until,
       free_bytes = case when exists (select 1 from jobs where runner_id = $1 and status = 'running')
         then runners.free_bytes else excluded.free_bytes end`,
    [
      runner.id,
      runner.host,
      runner.hardware,
      runner.engine,
      runner.device,
      runner.threads,
      runner.memoryBytes,
      runner.freeBytes,
      runner.memoryBudgetBytes,
      runner.flopsPerSecond,
      runner.startedAt,
      aliveSeconds,
    ],
  );
}

/** Removes a worker that ends, and those that stopped registering. */
export async function removeRunners(db: Queryable, ended: string): Promise<void> {
  await db.query('delete from runners where id = $1 or alive_until < now()', [ended]);
}

/** Live workers, oldest first. */
export async function listRunners(db: Queryable): Promise<Runner[]> {
  const { rows } = await db.query<Runner>(
    `select ${runnerColumns} from runners where alive_until > now() order by started_at, id`,
  );
  return rows;
}

/** Runs of comparable speed: same hardware and settings, same model. */
export interface RunKind extends Pick<Runner, 'hardware' | 'engine' | 'device' | 'threads'> {
  /** A base model. */
  model: string;
  adapter: string;
  quantization: string;
}

const keyOf = (kind: RunKind) => [
  kind.hardware,
  kind.engine,
  kind.device,
  kind.threads,
  kind.model,
  kind.adapter,
  kind.quantization,
];

export async function addRunSpeed(
  db: Queryable,
  kind: RunKind,
  steps: { flops: number; seconds: number },
): Promise<void> {
  await db.query(
    `insert into run_speeds as known (hardware, engine, device, threads, model, adapter, quantization, flops, seconds)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
     on conflict (hardware, engine, device, threads, model, adapter, quantization)
       do update set flops = known.flops + excluded.flops, seconds = known.seconds + excluded.seconds`,
    [...keyOf(kind), steps.flops, steps.seconds],
  );
}

/** Mean FLOP/s of such runs; null when there were none. */
export async function findRunSpeed(db: Queryable, kind: RunKind): Promise<number | null> {
  const { rows } = await db.query<{ speed: number }>(
    `select flops / seconds as speed from run_speeds
     where (hardware, engine, device, threads, model, adapter, quantization) = ($1, $2, $3, $4, $5, $6, $7)
       and seconds > 0`,
    keyOf(kind),
  );
  return rows[0]?.speed ?? null;
}
