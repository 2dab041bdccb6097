// A folder that serve.ts answers from: a random model, a tokenizer in which every token has a text of its own, and adapters.
import { cp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeAdapter } from '../src/formats/peft.ts';
import { loraShapes, selectLayers } from '../src/models/lora.ts';
import { openModel } from '../src/models/registry.ts';
import { makeModel, type ShapeName, TARGETS } from './train-model.ts';

const TOKENIZER = join(import.meta.dirname, '../tests/golden/llama-tiny');
const RANK = 8;

export interface ServedFolder {
  readonly folder: string;
  /** PEFT folders. */
  readonly adapters: readonly string[];
}

/** Texts of prompts are in its first tokens; the others are words that only a model can write. Generation never stops by itself: the end is no token of the model. */
async function writeTokenizer(folder: string, vocabSize: number): Promise<void> {
  await cp(join(TOKENIZER, 'tokenizer_config.json'), join(folder, 'tokenizer_config.json'));
  const tokenizer = JSON.parse(await readFile(join(TOKENIZER, 'tokenizer.json'), 'utf8'));
  const { vocab } = tokenizer.model;
  for (let id = Object.keys(vocab).length; id < vocabSize; id++) vocab[`w${id}`] = id;
  const end = '<|im_end|>';
  const ends = tokenizer.added_tokens.find(({ content }: { content: string }) => content === end);
  vocab.unused = vocab[end];
  vocab[end] = vocabSize;
  ends.id = vocabSize;
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
}

const numbers = ([rows, columns]: readonly [number, number], seed: number) =>
  Float32Array.from({ length: rows * columns }, (_, i) => 0.02 * Math.sin(i * 0.7 + seed));

export async function makeServed(shape: ShapeName, adapters: number): Promise<ServedFolder> {
  const folder = join(tmpdir(), 'anneal-benchmark', shape);
  await makeModel(folder, shape);
  const model = await openModel(folder);
  await writeTokenizer(folder, model.shape.vocabSize);
  const { linearLayers } = model;
  const adapted = selectLayers(linearLayers, TARGETS[shape]);
  const folders = Array.from({ length: adapters }, (_, index) => join(folder, 'adapters', String(index)));
  for (const [index, adapter] of folders.entries()) {
    const layers = adapted.map(layer => {
      const { a, b } = loraShapes(layer, RANK);
      return [layer.name, { a: numbers(a, index), b: numbers(b, index + 0.5) }];
    });
    await writeAdapter(adapter, {
      ...{ rank: RANK, alpha: 2 * RANK, dropout: 0, baseModel: shape, linearLayers },
      layers: Object.fromEntries(layers),
    });
  }
  return { folder, adapters: folders };
}
