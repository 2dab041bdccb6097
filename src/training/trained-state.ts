// Where the numbers of a run lie that its steps change: parameters, both moments, sums of gradients. How they are laid out is in state.ts,
// what makes gradients of them in trainer.ts.
import type { Engine, Executable, HostArrays, RunArrays } from '../engine/program.ts';
import { openDeviceState } from './device-state.ts';
import { openHostState } from './host-state.ts';
import type { OptimizerState, OptimizerStep } from './optimizer.ts';
import type { StateLayout } from './state.ts';

export interface TrainedState {
  /** What programs read, by PARAMETER and name; good until the next update. */
  parameters(): RunArrays;
  /** Gradients are added up from zero again. */
  startSums(): void;
  /** Runs a gradient program, which adds to the sums so far. */
  addGradients(program: Executable, fed: HostArrays): Promise<HostArrays>;
  /** Takes a step with the sums; resolves to the norm of the mean gradient before clipping. */
  update(step: OptimizerStep): Promise<number>;
  /** Other parameters where programs read them best. */
  place(parameters: Float32Array): Promise<PlacedParameters>;
  /** The numbers now, in arrays that the next read or step may write. */
  read(): Promise<OptimizerState>;
  readParameters(): Promise<Float32Array>;
  close(): Promise<void>;
}

export interface PlacedParameters {
  /** By PARAMETER and name. */
  readonly arrays: RunArrays;
  free(): void;
}

/** Goes on from `state`, whose arrays are the run's own from here on. */
export const openTrainedState = (
  engine: Engine,
  layout: StateLayout,
  state: OptimizerState,
): Promise<TrainedState> =>
  engine.memory
    ? openDeviceState(engine, engine.memory, layout, state)
    : openHostState(engine, layout, state);
