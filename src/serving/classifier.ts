// Runs a trained head on texts: a logit per class, or a number. The pooled states come from an embedder that requests share; the
// outputs are interpreted in head-outputs.ts.
import type { Engine, Executable, HostArrays, Program } from '../engine/program.ts';
import { meaningOfConfig, type OutputMeaning, readMeaning } from '../formats/classifier-config.ts';
import { type Adapter, readAdapter } from '../formats/peft.ts';
import { readTensor } from '../formats/safetensors.ts';
import { ModelError } from '../models/model-error.ts';
import { type Model, openModel } from '../models/registry.ts';
import { type SequenceHead, sequenceHead } from '../models/sequence-head.ts';
import type { LoadedAdapter } from './adapter-stack.ts';
import { toLoaded } from './adapters.ts';
import { Embedder } from './embedder.ts';

/** A head's tensors, and the adapter it was trained with. */
export interface LoadedHead {
  readonly meaning: OutputMeaning;
  readonly head: SequenceHead;
  readonly tensors: HostArrays;
  readonly adapter: LoadedAdapter | null;
}

/** Throws ModelError if neither the adapter nor the model has a complete head. */
export async function loadHead(
  model: Model,
  id: string,
  adapterDirectory: string | null,
): Promise<LoadedHead> {
  const adapter = adapterDirectory
    ? await readAdapter(adapterDirectory, model.linearLayers, { head: true })
    : null;
  const meaning = adapterDirectory ? await readMeaning(adapterDirectory) : meaningOfModel(model);
  if (!meaning) throw new ModelError(`${id} has no classification or regression head`);
  const head = sequenceHead(model, meaning.labels.length);
  return {
    meaning,
    head,
    tensors: await readHead(head, id, adapter, model),
    adapter: adapter && toLoaded(id, adapter),
  };
}

/** Null for a model without a head. Labels default to those of `transformers`: LABEL_0 and so on. */
export function meaningOfModel(model: Model): OutputMeaning | null {
  if (!model.served.endsWith('ForSequenceClassification')) return null;
  const outputs = model.leftOut[`${sequenceHead(model, 1).out}.weight`]?.shape[0] ?? 0;
  const named = meaningOfConfig(model.config);
  if (outputs === 0 || named) return named;
  const labels = Array.from({ length: outputs }, (_, i) => `LABEL_${i}`);
  return { problem: outputs === 1 ? 'regression' : 'single', labels, reads: 'input' };
}

async function readHead(
  { tensors }: SequenceHead,
  id: string,
  adapter: Adapter | null,
  model: Model,
): Promise<HostArrays> {
  const stored = { ...model.leftOut, ...adapter?.head };
  const entries = Object.entries(tensors).map(async ([name, shape]) => {
    const found = stored[name];
    if (String(found?.shape) === String(shape)) return [name, await readTensor(found!)] as const;
    throw new ModelError(`${id} has ${name} [${found?.shape ?? 'nothing'}] instead of [${shape}]`);
  });
  return Object.fromEntries(await Promise.all(entries));
}

export interface ClassifyRequest {
  readonly tokens: readonly number[];
  readonly head: LoadedHead;
  readonly signal?: AbortSignal;
}

export interface Classifier {
  readonly model: Model;
  /** -> logits [outputs], without softmax or sigmoid. */
  outputs(request: ClassifyRequest): Promise<Float32Array>;
  close(): Promise<void>;
}

/** For all heads of one model, which was opened for sequences. */
export function openClassifier(engine: Engine, model: Model): Classifier {
  const { pooling } = sequenceHead(model, 1);
  const { maxPositions } = model.shape;
  const states = new Embedder(engine, model, { mode: pooling, normalize: false, maxTokens: maxPositions });
  const programs = new Map<number, Promise<Executable>>();
  const programFor = (head: SequenceHead, outputs: number): Promise<Executable> => {
    const found = programs.get(outputs) ?? engine.compile(headProgram(model, head));
    programs.set(outputs, found);
    return found;
  };
  return {
    model,
    async outputs({ tokens, head: { head, meaning, tensors, adapter }, signal }) {
      const pooled = await states.embed({ tokens, adapter, signal });
      const program = await programFor(head, meaning.labels.length);
      const { outputs } = await program.run({ pooled, ...tensors });
      return outputs as Float32Array;
    },
    async close() {
      await states.close();
      for (const program of programs.values()) await (await program).close();
    },
  };
}

/** pooled [1, hiddenSize] and the head's tensors by name -> outputs [1, outputs] */
function headProgram(model: Model, head: SequenceHead): Program {
  const tensors = Object.entries(head.tensors).map(
    ([name, shape]) => [name, { shape, dtype: 'float32' }] as const,
  );
  return {
    name: `${model.architecture} head`,
    inputs: {
      pooled: { shape: [1, model.shape.hiddenSize], dtype: 'float32' },
      ...Object.fromEntries(tensors),
    },
    weights: {},
    run: ({ pooled, ...weights }) => ({ outputs: head.logits(pooled!, name => weights[name]!) }),
  };
}

export interface FineTuned {
  readonly classifier: Classifier;
  readonly head: LoadedHead;
}

/** Opens a single fine-tuned model. Throws ModelError if its head is incomplete. */
export async function openFineTuned(
  engine: Engine,
  { modelDirectory, adapterDirectory }: { modelDirectory: string; adapterDirectory: string | null },
): Promise<FineTuned> {
  const model = await openModel(modelDirectory, 'sequence');
  const head = await loadHead(model, 'fine-tuned', adapterDirectory);
  return { classifier: openClassifier(engine, model), head };
}
