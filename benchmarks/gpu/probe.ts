// Opens a device and ends: `node benchmarks/gpu/probe.ts cuda|webgpu|cpu`. A process of its own, because a library that does not fit may end it.
import { openEngine } from '../../src/engine/engine.ts';
import { parseDevice } from '../contender.ts';

await openEngine({ engine: 'onnx', device: parseDevice(process.argv[2]!), threads: 1 });
