// A process that opens an engine as training does, measures how fast it multiplies, answers once and ends.
import { readFile } from 'node:fs/promises';
import { type EngineOptions, openEngine } from './engine.ts';
import { measureProductRate } from './product-rate.ts';

export interface DeviceRate {
  /** Where `auto` leads. */
  device: string;
  flopsPerSecond: number;
}

process.on('disconnect', () => process.exit(1));
const options = JSON.parse(await readFile(process.argv[2]!, 'utf8')) as EngineOptions;
const engine = await openEngine(options);
const { flopsPerSecond } = await measureProductRate(engine);
const answer: DeviceRate = { device: engine.device, flopsPerSecond };
process.send!(answer, undefined, undefined, error => process.exit(error ? 1 : 0));
