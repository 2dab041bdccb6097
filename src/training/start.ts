// What a run or a dry run starts from: the model, the adapter to continue, and the objective.
import { loadTokenizer, type Tokenizer } from '../data/tokenizer.ts';
import { type Adapter, readAdapter } from '../formats/peft.ts';
import { type Model, openModel } from '../models/registry.ts';
import type { Objective } from './objectives/objective.ts';
import { modelTask, openObjective } from './objectives.ts';
import type { TrainSpec } from './protocol.ts';

export interface Start {
  readonly model: Model;
  readonly tokenizer: Tokenizer;
  readonly adapter: Adapter | null;
  readonly objective: Objective;
}

type Given = Pick<
  TrainSpec,
  'modelDirectory' | 'adapterDirectory' | 'method' | 'hyperparameters' | 'trainingFile'
>;

/** Throws ModelError or TrainingFailure. */
export async function openStart(spec: Given): Promise<Start> {
  const { modelDirectory, adapterDirectory, method } = spec;
  const task = modelTask(method.type);
  const model = await openModel(modelDirectory, task);
  const adapter =
    adapterDirectory === null
      ? null
      : await readAdapter(adapterDirectory, model.linearLayers, { head: task === 'sequence' });
  const tokenizer = await loadTokenizer(modelDirectory);
  const objective = await openObjective({ ...spec, model, tokenizer, adapter });
  return { model, tokenizer, adapter, objective };
}
