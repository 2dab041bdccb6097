// How much memory there is for this process at most. What is free at the moment is not asked here.
import { totalmem } from 'node:os';

/** Of the machine, or of the control group (a container's limit) when that has less: Node says 0 where there are no such groups. */
export const machineBytes = (): number =>
  Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
