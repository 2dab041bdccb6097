// A child process that opens an engine as training does, reports its matrix product rate, and exits.
import { readFile } from 'node:fs/promises';
import { type EngineOptions, openEngine } from './engine.ts';
import { measureProductRate } from './product-rate.ts';

export interface DeviceRate {
  /** The device that `auto` chose. */
  device: string;
  flopsPerSecond: number;
}

process.on('disconnect', () => process.exit(1));
const options = JSON.parse(await readFile(process.argv[2]!, 'utf8')) as EngineOptions;
const engine = await openEngine(options);
const { flopsPerSecond } = await measureProductRate(engine);
const answer: DeviceRate = { device: engine.device, flopsPerSecond };
process.send!(answer, undefined, undefined, error => process.exit(error ? 1 : 0));
