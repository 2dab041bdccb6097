// Opens an engine by name. What an engine does is in its own file.
import { openCpuEngine } from './cpu.ts';
import { openOnnxEngine } from './onnx.ts';
import type { Engine } from './program.ts';
import { openTensorflowEngine } from './tensorflow.ts';

export type EngineName = 'onnx' | 'tensorflow' | 'cpu';
export type Device = 'auto' | 'cpu' | 'cuda' | 'webgpu';

export interface EngineOptions {
  readonly engine: EngineName;
  readonly device: Device;
  /** Threads of one run; 0: as many as the machine has cores. */
  readonly threads: number;
}

const ENGINES: Record<EngineName, (options: EngineOptions) => Promise<Engine>> = {
  onnx: openOnnxEngine,
  tensorflow: openTensorflowEngine,
  cpu: openCpuEngine,
};

/** Throws when the engine is not installed or cannot use the device. */
export const openEngine = (options: EngineOptions): Promise<Engine> => ENGINES[options.engine](options);
