// The interface of the training state: parameters, moments and gradient sums, in host or device memory. Their layout is
// in state.ts; trainer.ts computes the gradients.
import type { Engine, Executable, HostArrays, RunArrays } from '../engine/program.ts';
import { openDeviceState } from './device-state.ts';
import { openHostState } from './host-state.ts';
import type { OptimizerState, OptimizerStep } from './optimizer.ts';
import type { StateLayout } from './state.ts';

export interface TrainedState {
  /** Inputs for programs, by PARAMETER and name; valid until the next update. */
  parameters(): RunArrays;
  /** Resets the gradient sums. */
  startSums(): void;
  /** Runs a gradient program, which adds to the sums. */
  addGradients(program: Executable, fed: HostArrays): Promise<HostArrays>;
  /** Takes an optimizer step with the sums; resolves to the norm of the mean gradient before clipping. */
  update(step: OptimizerStep): Promise<number>;
  /** Places other parameters where programs read them best. */
  place(parameters: Float32Array): Promise<PlacedParameters>;
  /** The current state, in arrays that the next read or step may overwrite. */
  read(): Promise<OptimizerState>;
  readParameters(): Promise<Float32Array>;
  close(): Promise<void>;
}

export interface PlacedParameters {
  /** By PARAMETER and name. */
  readonly arrays: RunArrays;
  free(): void;
}

/** Starts from `state` and takes ownership of its arrays. */
export const openTrainedState = (
  engine: Engine,
  layout: StateLayout,
  state: OptimizerState,
): Promise<TrainedState> =>
  engine.memory
    ? openDeviceState(engine, engine.memory, layout, state)
    : openHostState(engine, layout, state);
