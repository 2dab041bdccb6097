// Writes the trained anneal-tiny: the JSON files, the trained weights in bf16, and a README with measurements and
// sample texts.
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadTokenizer, type Tokenizer } from '../data/tokenizer.ts';
import type { Engine } from '../engine/program.ts';
import { type TensorToWrite, writeSafetensors } from '../formats/safetensors.ts';
import { openModel } from '../models/registry.ts';
import { Generator } from '../serving/generator.ts';
import { GREEDY } from '../serving/sampling.ts';
import type { OptimizerState } from '../training/optimizer.ts';
import { type StateLayout, viewsOf } from '../training/state.ts';
import type { ChatMessage } from './corpus.ts';
import type { Progress } from './progress-store.ts';
import { type Recipe, totalSteps } from './recipe.ts';

interface Figures extends Progress {
  readonly heldOutLoss: number;
  readonly heldOutAccuracy: number;
}

export interface Release {
  /** Folder of the JSON files. */
  readonly start: string;
  readonly out: string;
  readonly recipe: Recipe;
  readonly engine: Engine;
  readonly state: OptimizerState;
  readonly layout: StateLayout;
  readonly figures: Figures;
}

const FILES = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'generation_config.json'];

/** Prompts and questions for the README's samples; none is a sentence of the corpus. */
const beginnings = ['One morning, Lucy found a small box under her bed.', 'The fox and the hen'];
const chats: readonly (readonly ChatMessage[])[] = [
  [{ role: 'user', content: 'Hello! Who are you?' }],
  [{ role: 'user', content: 'Tell me about owls.' }],
  [{ role: 'user', content: 'Ben has a green boat. Nina has a white hat. What color is the boat of Ben?' }],
  [
    { role: 'system', content: 'Answer with one word.' },
    {
      role: 'user',
      content: 'Tom lives in the castle. Rosa was tired because the day had been long. Who was tired?',
    },
  ],
  [{ role: 'user', content: 'Repeat: lamp 42 Zorvik' }],
  [{ role: 'user', content: 'Tell me a story.' }],
];

export async function writeTrainedModel(release: Release): Promise<void> {
  const { start, out, layout, state } = release;
  mkdirSync(out, { recursive: true });
  for (const name of FILES) copyFileSync(join(start, name), join(out, name));
  const views = viewsOf(state.parameters, layout);
  const tensors = layout.slots.map(({ name, shape }): [string, TensorToWrite] => [
    name,
    { dtype: 'BF16', shape, data: views[name]! },
  ]);
  await writeSafetensors(join(out, 'model.safetensors'), Object.fromEntries(tensors), { format: 'pt' });
  writeFileSync(join(out, 'README.md'), readme(release, await writeSomething(out, release.engine)));
}

/** Sample texts of the model, read back from its files. */
async function writeSomething(folder: string, engine: Engine): Promise<string[]> {
  const tokenizer = await loadTokenizer(folder);
  const generator = new Generator(engine, await openModel(folder));
  const complete = (prompt: ArrayLike<number>) => generateText(generator, tokenizer, prompt);
  const written: string[] = [];
  for (const text of beginnings) written.push(`${text}**${await complete(tokenizer.encodePrompt(text))}**`);
  for (const messages of chats) {
    const rendered = tokenizer.renderChat([...messages], [], { addGenerationPrompt: true });
    const answer = await complete(tokenizer.encodeRendered(rendered));
    const asked = messages.map(({ role, content }) => `${role}: ${content}`).join('<br>');
    written.push(`${asked}<br>assistant: **${answer}**`);
  }
  await generator.close();
  return written;
}

async function generateText(
  generator: Generator,
  tokenizer: Tokenizer,
  prompt: ArrayLike<number>,
): Promise<string> {
  const tokens: number[] = [];
  await generator.generate({
    prompt,
    adapter: null,
    maxTokens: 120,
    sampling: GREEDY,
    choice: 0,
    stopTokens: tokenizer.eosIds,
    topLogprobs: null,
    onToken(token) {
      tokens.push(token);
      return false;
    },
  });
  return tokenizer.decode(tokens).replaceAll('\n', '<br>');
}

function readme({ recipe, layout, figures }: Release, written: readonly string[]): string {
  const parameters = layout.slots.reduce((sum, { size }) => sum + size, 0);
  const tokens = totalSteps(recipe) * recipe.rows * recipe.rowLength;
  const marks = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1].map(part =>
    Math.max(1, Math.round(part * totalSteps(recipe))),
  );
  const losses = marks.map(step => `| ${step} | ${meanBefore(figures.losses, step).toFixed(3)} |`);
  return `---
license: apache-2.0
language: en
pipeline_tag: text-generation
---
# anneal-tiny

A language model of ${(parameters / 1e6).toFixed(2)} million parameters (Llama architecture, tied embeddings, bf16) that writes simple English and
follows a chat format: it answers in turn and ends its turn. It exists so that Anneal's quickstart and tests have something real to fine-tune.
It has seen very little text: it knows almost nothing, loses its thread after some sentences, and mostly fails to look up who did what in a text that it is given.

It was pre-trained from nothing by \`npm run pretrain:tiny\`, on Anneal's own engine, on text that
\`src/pretraining/corpus.ts\` generates: stories, facts, dialogues, letters and conversations. There is no other text in it.
The same command makes it again.

| | |
|---|---|
| layers, hidden size, MLP | ${recipe.layers}, ${recipe.hiddenSize}, ${recipe.intermediateSize} |
| heads, key-value heads | ${recipe.heads}, ${recipe.kvHeads} |
| vocabulary | ${recipe.vocabSize}, byte-level BPE |
| context | ${recipe.maxPositions} |
| tokens seen | about ${(tokens / 1e6).toFixed(1)} million in ${totalSteps(recipe)} steps |
| time | ${(figures.seconds / 60).toFixed(0)} minutes of steps, ${Math.round(tokens / figures.seconds)} tokens/s |
| loss, next-token accuracy on generated text never seen | ${figures.heldOutLoss.toFixed(3)}, ${figures.heldOutAccuracy.toFixed(3)} |

| step | training loss |
|---|---|
${losses.join('\n')}

## What it writes

Greedy; what the model wrote is in bold.

${written.map(text => `- ${text}`).join('\n')}
`;
}

/** Mean over the 25 steps that end at `step`. */
function meanBefore(losses: readonly number[], step: number): number {
  const recent = losses.slice(Math.max(0, step - 25), step);
  return recent.reduce((sum, loss) => sum + loss, 0) / recent.length;
}
