// Golden trainings as this trainer takes them: examples taken apart from the fixtures' packed rows, and a trainer on them.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Example } from '../../src/data/example-form.ts';
import { type EngineName, openEngine } from '../../src/engine/engine.ts';
import type { Engine } from '../../src/engine/program.ts';
import { readAdapter } from '../../src/formats/peft.ts';
import type { ModelKind } from '../../src/models/architecture.ts';
import { type Model, openModel, requireEncoderDecoder } from '../../src/models/registry.ts';
import { answering } from '../../src/training/objectives/answering.ts';
import { classification } from '../../src/training/objectives/classification.ts';
import { generation } from '../../src/training/objectives/generation.ts';
import type { Objective } from '../../src/training/objectives/objective.ts';
import { openHead } from '../../src/training/objectives/text-outputs.ts';
import type { OptimizerState } from '../../src/training/optimizer.ts';
import type { MicroBatchShape } from '../../src/training/programs.ts';
import { firstValues, stateLayoutOf, type Tuning } from '../../src/training/trainable.ts';
import { openTrainer } from '../../src/training/trainer.ts';

export const golden = (name: string) => join(import.meta.dirname, '../golden', name);

interface PackedBatch {
  tokens: number[][];
  targets: number[][];
  segments: number[][];
  /** Of encoder-decoders: an example has the same number in both. */
  sourceTokens?: number[][];
  sourceSegments?: number[][];
}

export interface Trajectory {
  optimizer: { weight_decay: number; max_grad_norm: number };
  batches: PackedBatch[][];
  steps: { loss: number; gradient_norm: number; learning_rate: number }[];
  without_gradient: { tensor: string; from: number; to: number }[];
}

export const readTrajectory = (model: string, kind: string): Trajectory =>
  JSON.parse(readFileSync(join(golden(model), `trajectory-${kind}.json`), 'utf8'));

/** Every example of a batch's micro-batches, alone. */
export const unpack = (batches: readonly PackedBatch[]): Example[] =>
  batches.flatMap(batch => batch.tokens.flatMap((_, row) => unpackRow(batch, row)));

const placesOf = (segments: readonly number[], segment: number): number[] =>
  segments.flatMap((found, place) => (found === segment ? [place] : []));

function unpackRow(batch: PackedBatch, row: number): Example[] {
  const { tokens, targets, segments, sourceTokens, sourceSegments } = batch;
  const numbers = [...new Set(segments[row]!.filter(segment => segment >= 0))];
  return numbers.map(segment => {
    const places = placesOf(segments[row]!, segment);
    const trained = places.map((_, i) => (i > 0 && targets[row]![places[i - 1]!]! >= 0 ? 1 : 0));
    const sequence = {
      tokens: Int32Array.from(places, place => tokens[row]![place]!),
      trained: Uint8Array.from(trained),
    };
    if (!sourceTokens) return { sequences: [sequence], values: [] };
    const read = placesOf(sourceSegments![row]!, segment).map(place => sourceTokens[row]![place]!);
    const source = { tokens: Int32Array.from(read), trained: new Uint8Array(read.length) };
    return { sequences: [source, sequence], values: [] };
  });
}

const CLASSES = { multiple: false, labels: ['a', 'b', 'c'], lines: 0, counts: new Map<string, number>() };

/** Three classes, which are the examples' values. */
async function classes(model: Model): Promise<Objective> {
  const start = { model, adapter: null, adapterDirectory: null };
  const meaning = { problem: 'single', labels: CLASSES.labels, reads: 'input' } as const;
  return classification(await openHead(start, meaning), CLASSES, null);
}

/** What models of a kind are usually trained for. Answers' rows are shorter than the sources'. */
const USUAL: Record<ModelKind, (model: Model) => Objective | Promise<Objective>> = {
  causal: generation,
  encoder: classes,
  'encoder-decoder': model => answering(requireEncoderDecoder(model), { source: 1, answer: 0.875 }),
};

export interface GoldenRun {
  readonly model: string;
  readonly kind: 'lora' | 'full';
  readonly engine: EngineName | Engine;
  readonly shapes: readonly MicroBatchShape[];
  readonly dropout?: number;
  readonly gradientCheckpointing?: boolean;
  /** What models of its kind are usually trained for where absent. */
  readonly objective?: (model: Model) => Objective;
  /** To go on from; the fixture's adapter and no moments where absent. */
  readonly state?: OptimizerState;
}

export async function openGolden({
  model: name,
  kind,
  engine: given,
  shapes,
  dropout = 0,
  gradientCheckpointing = false,
  objective: objectiveOf,
  state: earlier,
}: GoldenRun) {
  const model = await openModel(golden(name));
  const adapter = await readAdapter(join(golden(name), 'adapter'), model.linearLayers);
  const tuning: Tuning =
    kind === 'full'
      ? { kind }
      : {
          kind,
          layers: model.linearLayers.filter(layer => adapter.layers[layer.name]),
          rank: adapter.rank,
          alpha: adapter.scale * adapter.rank,
          dropout,
        };
  const objective = await (objectiveOf ?? USUAL[model.kind])(model);
  const layout = stateLayoutOf(model, tuning, objective);
  const parameters = await firstValues({ model, tuning, objective, adapter, seed: 0 }, layout);
  const state = earlier ?? { parameters, m: new Float32Array(layout.size), v: new Float32Array(layout.size) };
  const engine =
    typeof given === 'string' ? await openEngine({ engine: given, device: 'cpu', threads: 1 }) : given;
  return openTrainer({
    engine,
    trained: { model, tuning, objective, state: layout, gradientCheckpointing },
    state,
    costs: { hiddenSize: model.shape.hiddenSize },
    shapes: () => shapes,
    between: async () => {},
  });
}

/** PEFT's and transformers' names -> ours. */
export const ourName = (name: string) =>
  name.replace(/^base_model\.model\./, '').replace(/\.(lora_[AB])\.weight$/, '.$1');
