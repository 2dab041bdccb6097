// The metrics registry of a process, with the metrics of the process and its machine: memory, event loop, garbage collection, child
// processes, accelerators. Others are added by api-metrics.ts and worker-metrics.ts; observed-metrics.ts exports them to OpenTelemetry.
import { createHash, timingSafeEqual } from 'node:crypto';
import { collectDefaultMetrics, Gauge, Registry } from '@prometheus-io/client';
import packageJson from '../../package.json' with { type: 'json' };
import { readChildren } from './children.ts';
import { readDevices } from './devices.ts';

export interface Monitoring {
  readonly registry: Registry;
  /** Registers a function that updates metrics before they are read. They run concurrently and must not throw. */
  beforeWriting(work: () => Promise<void> | void): void;
  /** Runs these functions. */
  refresh(): Promise<void>;
  /** In Prometheus' text format. */
  write(): Promise<string>;
}

export function openMonitoring(): Monitoring {
  const registry = new Registry();
  const works: (() => Promise<void> | void)[] = [];
  const refresh = async () => {
    await Promise.all(works.map(work => work()));
  };
  const monitoring: Monitoring = {
    registry,
    beforeWriting: work => void works.push(work),
    refresh,
    async write() {
      await refresh();
      return registry.metrics();
    },
  };
  collectDefaultMetrics({ register: registry });
  addBuild(monitoring);
  addChildren(monitoring);
  addDevices(monitoring);
  return monitoring;
}

function addBuild({ registry }: Monitoring): void {
  const labels = { name: 'anneal_build_info', help: 'Always 1; the version is the label.' };
  const build = new Gauge({ ...labels, labelNames: ['version'], registers: [registry] });
  build.set({ version: packageJson.version }, 1);
}

function addChildren({ registry, beforeWriting }: Monitoring): void {
  const memory = new Gauge({
    name: 'anneal_child_resident_memory_bytes',
    help: 'Memory of the processes that this one has started: generation, trainer, dry runs.',
    labelNames: ['program'],
    registers: [registry],
  });
  beforeWriting(async () => {
    const children = await readChildren();
    memory.reset();
    for (const { program, residentBytes } of children) memory.inc({ program }, residentBytes);
  });
}

function addDevices({ registry, beforeWriting }: Monitoring): void {
  const gauge = (name: string, help: string) =>
    new Gauge({ name, help, labelNames: ['device', 'name'], registers: [registry] });
  const used = gauge('anneal_device_memory_used_bytes', 'Memory in use on an accelerator, by whomever.');
  const total = gauge('anneal_device_memory_total_bytes', 'Memory of an accelerator.');
  beforeWriting(async () => {
    const devices = await readDevices();
    used.reset();
    total.reset();
    for (const { index: device, name, usedBytes, totalBytes } of devices) {
      used.set({ device, name }, usedBytes);
      total.set({ device, name }, totalBytes);
    }
  });
}

/** Whether a request has the right token, in constant time. */
export function isAllowed(authorization: string | undefined, token: string): boolean {
  const given = /^Bearer (.+)$/i.exec(authorization ?? '')?.[1]?.trim() ?? '';
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(token));
}
