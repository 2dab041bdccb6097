// The export process: started by fork with the path of a spec; it reports what it made once, and exits.
import { readFile } from 'node:fs/promises';
import { constants, setPriority } from 'node:os';
import { openEngine } from '../engine/engine.ts';
import { ModelError } from '../models/model-error.ts';
import { type Exported, type ExportSpec, exportModel } from './export.ts';

export interface ExportChildSpec extends ExportSpec {
  readonly threads: number;
}

export type ExportAnswer = ({ type: 'done' } & Exported) | { type: 'refused'; message: string };

async function answer(spec: ExportChildSpec): Promise<ExportAnswer> {
  try {
    // Always on the CPU: the device is for training.
    const engine = await openEngine({ engine: 'onnx', device: 'cpu', threads: spec.threads });
    return { type: 'done', ...(await exportModel(engine, spec)) };
  } catch (error) {
    if (error instanceof ModelError) return { type: 'refused', message: error.message };
    throw error;
  }
}

process.on('disconnect', () => process.exit(1));
setPriority(constants.priority.PRIORITY_BELOW_NORMAL);
const spec = JSON.parse(await readFile(process.argv[2]!, 'utf8')) as ExportChildSpec;
const made = await answer(spec);
process.send!(made, () => process.exit(0));
