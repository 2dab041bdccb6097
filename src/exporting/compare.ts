// Compares the outputs of two models on fixed random tokens: log-probabilities if they generate text, outputs if they
// classify or regress, embeddings otherwise.
import type { Engine } from '../engine/program.ts';
import { readMeaning } from '../formats/classifier-config.ts';
import { answerRules } from '../models/answer-rules.ts';
import { readPooling } from '../models/pooling.ts';
import { type Model, openModel } from '../models/registry.ts';
import { loadAdapter } from '../serving/adapters.ts';
import { meaningOfModel, openFineTuned } from '../serving/classifier.ts';
import { Embedder } from '../serving/embedder.ts';
import { Generator } from '../serving/generator.ts';
import type { Compared } from './formats.ts';

/** A fine-tuned model on disk. */
export interface ModelFolders {
  /** Folder of the base model, or of a fully fine-tuned one. */
  readonly modelDirectory: string;
  /** PEFT folder, or null. */
  readonly adapterDirectory: string | null;
}

/** What a model is compared by. */
export async function comparedOf(model: Model, adapterDirectory: string | null): Promise<Compared> {
  const meaning = adapterDirectory ? await readMeaning(adapterDirectory) : meaningOfModel(model);
  if (meaning) return 'outputs';
  return model.outputWeight === null ? 'vectors' : 'logprobs';
}

const LENGTHS = [64, 17, 5];
const SEED = 0x5eed;

/** Random token sequences over the whole vocabulary; a linear congruential generator is random enough for that. */
function drawTexts({ shape }: Model): number[][] {
  let state = SEED;
  const draw = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * shape.vocabSize);
  };
  return LENGTHS.map(length => Array.from({ length: Math.min(length, shape.maxPositions) }, draw));
}

const ASKED: Record<Compared, (engine: Engine, folders: ModelFolders) => Promise<number[]>> = {
  async logprobs(engine, { modelDirectory, adapterDirectory }) {
    const model = await openModel(modelDirectory);
    const generator = new Generator(engine, model);
    try {
      const adapter = adapterDirectory ? await loadAdapter(model, 'exported', adapterDirectory) : null;
      const [tokens, source] = drawTexts(model) as [number[], number[]];
      const asked =
        generator.model.kind === 'encoder-decoder'
          ? { source, tokens: [answerRules(generator.model).start, ...tokens.slice(1)] }
          : { tokens };
      const scores = await generator.score({ ...asked, adapter, topLogprobs: 0 });
      return scores.map(({ logprob }) => logprob);
    } finally {
      await generator.close();
    }
  },
  async outputs(engine, folders) {
    const { classifier, head } = await openFineTuned(engine, folders);
    try {
      const texts = drawTexts(classifier.model);
      const outputs = await Promise.all(texts.map(tokens => classifier.outputs({ tokens, head })));
      return outputs.flatMap(each => [...each]);
    } finally {
      await classifier.close();
    }
  },
  async vectors(engine, { modelDirectory, adapterDirectory }) {
    const model = await openModel(modelDirectory);
    const pooling = await readPooling(model);
    const embedder = new Embedder(engine, model, { ...pooling, normalize: true });
    try {
      const adapter = adapterDirectory ? await loadAdapter(model, 'exported', adapterDirectory) : null;
      const texts = drawTexts(model).map(tokens => tokens.slice(0, pooling.maxTokens));
      const vectors = await Promise.all(texts.map(tokens => embedder.embed({ tokens, adapter })));
      return vectors.flatMap(vector => [...vector]);
    } finally {
      await embedder.close();
    }
  },
};

/** The largest difference between the numbers of two models. */
export async function largestDifference(
  engine: Engine,
  compared: Compared,
  one: ModelFolders,
  other: ModelFolders,
): Promise<number> {
  const [ours, theirs] = [await ASKED[compared](engine, one), await ASKED[compared](engine, other)];
  if (ours.length !== theirs.length)
    throw new Error(`${ours.length} ${compared} against ${theirs.length}: the models are not alike`);
  return ours.reduce((most, value, i) => Math.max(most, Math.abs(value - theirs[i]!)), 0);
}
