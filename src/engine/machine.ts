// The upper limit of this process's memory; what is currently free is not considered.
import { totalmem } from 'node:os';

/**
 * Total memory of the machine, or the limit of its control group (container) if that is lower; Node reports 0 without
 * one.
 */
export const machineBytes = (): number =>
  Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
