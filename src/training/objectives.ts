// The table of training methods and their objectives. To add one, add a row here, its settings to protocol.ts, and its
// line format to src/data/line-rules.ts.
import type { ModelTask } from '../models/registry.ts';
import { openAnswering } from './objectives/answering.ts';
import { openClassification } from './objectives/classification.ts';
import { openEmbedding } from './objectives/embedding.ts';
import { openGeneration } from './objectives/generation.ts';
import type { Objective, ObjectiveInputs, OpenObjective } from './objectives/objective.ts';
import { openPreference } from './objectives/preference.ts';
import { openRegression } from './objectives/regression.ts';
import { openReinforcement } from './objectives/reinforcement.ts';
import type { Method, MethodName } from './protocol.ts';

interface Row<M extends Method> {
  /** What the model is opened for. */
  readonly task: ModelTask;
  readonly open: OpenObjective<M>;
}

const OBJECTIVES: { readonly [Name in MethodName]: Row<Extract<Method, { type: Name }>> } = {
  supervised: { task: 'as-saved', open: openSupervised },
  dpo: { task: 'as-saved', open: openPreference },
  classification: { task: 'sequence', open: openClassification },
  regression: { task: 'sequence', open: openRegression },
  embedding: { task: 'as-saved', open: openEmbedding },
  reinforcement: { task: 'as-saved', open: openReinforcement },
};

/** An encoder-decoder learns to answer the prompts that causal models continue. */
function openSupervised(
  inputs: ObjectiveInputs<Extract<Method, { type: 'supervised' }>>,
): Promise<Objective> {
  return inputs.model.kind === 'encoder-decoder' ? openAnswering(inputs) : openGeneration(inputs);
}

export const modelTask = (method: MethodName): ModelTask => OBJECTIVES[method].task;

/** Throws TrainingFailure or ModelError when the model, the file or the settings do not suit. */
export const openObjective = (inputs: ObjectiveInputs): Promise<Objective> =>
  (OBJECTIVES[inputs.method.type].open as OpenObjective)(inputs);
