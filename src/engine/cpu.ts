// The `cpu` engine: TensorFlow.js in plain JavaScript. Slow, and the reference that other engines are tested against.
import { eagerEngine } from './eager.ts';
import type { Engine } from './program.ts';

export const openCpuEngine = async (): Promise<Engine> => eagerEngine('cpu', 'cpu', 'cpu');
