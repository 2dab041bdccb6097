// Every method that a job may ask for, and what it learns. To add one is to add a row here, its settings to protocol.ts and the
// lines that it reads to src/data/line-rules.ts.
import { openGeneration } from './objectives/generation.ts';
import type { Objective, ObjectiveInputs, OpenObjective } from './objectives/objective.ts';
import { openPreference } from './objectives/preference.ts';
import type { Method, MethodName } from './protocol.ts';

const OBJECTIVES: { readonly [Name in MethodName]: OpenObjective<Extract<Method, { type: Name }>> } = {
  supervised: openGeneration,
  dpo: openPreference,
};

/** Throws TrainingFailure or ModelError when the model, the file or the settings do not suit. */
export const openObjective = (inputs: ObjectiveInputs): Promise<Objective> =>
  (OBJECTIVES[inputs.method.type] as OpenObjective)(inputs);
