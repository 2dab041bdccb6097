// Opens an engine by name.
import { openCpuEngine } from './cpu.ts';
import type { Precision } from './onnx/lowering.ts';
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
  /** Of matrix products; default float32. bfloat16 needs the `onnx` engine on CUDA. */
  readonly precision?: Precision;
}

const ENGINES: Record<EngineName, (options: EngineOptions) => Promise<Engine>> = {
  onnx: openOnnxEngine,
  tensorflow: openTensorflowEngine,
  cpu: openCpuEngine,
};

/** Throws when the engine is not installed, cannot use the device or does not know the precision. */
export async function openEngine(options: EngineOptions): Promise<Engine> {
  if (options.precision === 'bfloat16' && options.engine !== 'onnx')
    throw new Error(
      `the engine ${options.engine} has no products in bfloat16: the engine onnx has, on the device cuda`,
    );
  return ENGINES[options.engine](options);
}
