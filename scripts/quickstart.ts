// `npm run quickstart`: starts the whole service with its own data folder and runs the main workflow through the official `openai`
// client: upload, fine-tune, follow the events, compare with the base model on held-out examples, chat, stop. Exits with 0 only if the
// fine-tuned model reaches the required quality.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI, { toFile } from 'openai';
import type { FineTuningJob, FineTuningJobEvent } from 'openai/resources/fine-tuning/jobs/jobs';
import { printTable } from '../src/cli/table.ts';
import { type ChatLine, contentText } from '../src/data/conversation.ts';
import { makeSequences } from '../src/data/examples.ts';
import { loadTokenizer, type Tokenizer } from '../src/data/tokenizer.ts';
import { classify, findLabels } from '../src/evaluation/classification.ts';
import { exactMatch } from '../src/evaluation/exact-match.ts';
import { newSecretKey } from '../src/ids.ts';
import { openScreen } from './quickstart-screen.ts';
import { type Service, startService } from './quickstart-service.ts';

const BASE = 'anneal-tiny';
const SUFFIX = 'support';
const SEED = 7;
const AT_LEAST = 0.9;
const BASE_AT_MOST = 0.4;
const CONCURRENT = 8;

const QUESTIONS = [
  'Hello! My parcel should have been here on Tuesday. Where is it?',
  'I was charged two times for the same lamp.',
];

const root = join(import.meta.dirname, '..');
const home = join(root, '.anneal-quickstart');
const screen = openScreen(process.stdout);
const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => stop.abort(new Error(`stopped by ${signal}`)));

process.exitCode = await main();

async function main(): Promise<number> {
  const began = Date.now();
  let service: Service | null = null;
  try {
    const key = await readKey();
    screen.heading('Starting Postgres, the api and a worker on .anneal-quickstart/');
    service = await startService({ root, home, key, signal: stop.signal });
    screen.say(`listening on ${service.address}`);
    const client = new OpenAI({ baseURL: `${service.address}/v1`, apiKey: key });
    const passed = await runMainJob(client, key);
    screen.say(
      `\n${passed ? 'Everything worked' : 'The fine-tuned model is not as good as expected'}, in ${seconds(began)} s.`,
    );
    return passed ? 0 : 1;
  } catch (error) {
    if (stop.signal.aborted) screen.say(`\n${(stop.signal.reason as Error).message}`);
    else screen.say(`\nquickstart failed: ${(error as Error).message}\n${service?.lastLines() ?? ''}`);
    return stop.signal.aborted ? 130 : 1;
  } finally {
    await service?.stop();
  }
}

async function runMainJob(client: OpenAI, key: string): Promise<boolean> {
  const job = await createJob(client);
  const model = (await followJob(client, job.id)).fine_tuned_model!;
  const passed = await compare(client, model);
  await chat(client, model);
  await sayCurlLines(key, model);
  return passed;
}

// ---- fine-tuning

async function createJob(client: OpenAI): Promise<FineTuningJob> {
  screen.heading('Uploading samples/support-train.jsonl and samples/support-validation.jsonl');
  const training = await upload(client, 'support-train.jsonl');
  const validation = await upload(client, 'support-validation.jsonl');
  screen.heading(`Fine-tuning ${BASE}`);
  const job = await client.fineTuning.jobs.create({
    model: BASE,
    training_file: training.id,
    validation_file: validation.id,
    suffix: SUFFIX,
    seed: SEED,
  });
  screen.say(`job ${job.id}`);
  return job;
}

async function upload(client: OpenAI, name: string) {
  const content = await readFile(join(root, 'samples', name));
  const file = await client.files.create({ file: await toFile(content, name), purpose: 'fine-tune' });
  screen.say(`${file.id}  ${file.filename}  ${file.bytes} bytes`);
  return file;
}

/** Prints each event once, with steps as a progress bar, until the job has ended. */
async function followJob(client: OpenAI, id: string): Promise<FineTuningJob> {
  const said = new Set<string>();
  for (;;) {
    const job = await client.fineTuning.jobs.retrieve(id, { signal: stop.signal });
    const { data: newest } = await client.fineTuning.jobs.listEvents(
      id,
      { limit: 100 },
      { signal: stop.signal },
    );
    for (const event of newest.reverse().filter(({ id }) => !said.has(id))) {
      said.add(event.id);
      sayEvent(event);
    }
    if (job.status === 'succeeded') return job;
    if (job.status === 'failed' || job.status === 'cancelled')
      throw new Error(`the job is ${job.status}: ${job.error?.message ?? 'no reason given'}`);
    await sleep(300, undefined, { signal: stop.signal });
  }
}

function sayEvent({ message, type }: FineTuningJobEvent): void {
  const step = /^Step (\d+)\/(\d+): /.exec(message);
  if (type === 'metrics' && step) screen.step(Number(step[1]), Number(step[2]), message);
  else screen.say(message);
}

// ---- evaluation

interface Measured {
  readonly accuracy: number;
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
  readonly exactMatch: number;
  readonly loss: number;
}

/** Runs both models on all test examples over the API. Losses are computed from the log-probabilities of the reference answers. */
async function compare(client: OpenAI, model: string): Promise<boolean> {
  const lines = (await readFile(join(root, 'samples', 'support-test.jsonl'), 'utf8')).trim().split('\n');
  const examples = lines.map(line => JSON.parse(line) as ChatLine);
  screen.heading(
    `Asking both models the ${examples.length} examples of samples/support-test.jsonl, which were not trained on`,
  );
  const tokenizer = await loadTokenizer(join(root, 'models', BASE));
  const base = await measure(client, BASE, examples, tokenizer);
  const tuned = await measure(client, model, examples, tokenizer);
  const row = (name: string, m: Measured) => [
    name,
    ...[m.accuracy, m.precision, m.recall, m.f1, m.exactMatch].map(value => value.toFixed(3)),
    m.loss.toFixed(4),
  ];
  const header = ['', 'accuracy', 'macro precision', 'macro recall', 'macro F1', 'exact match', 'loss'];
  screen.say(printTable(header, [row(BASE, base), row(model, tuned)], true));
  return tuned.accuracy >= AT_LEAST && base.accuracy <= BASE_AT_MOST;
}

async function measure(
  client: OpenAI,
  model: string,
  examples: ChatLine[],
  tokenizer: Tokenizer,
): Promise<Measured> {
  const references = examples.map(({ messages }) => contentText(messages.at(-1)!.content));
  const answers = await inParallel(examples, example => ask(client, model, example));
  const sums = await inParallel(examples, example => lossOf(client, model, example, tokenizer));
  const report = classify(answers, references, findLabels(references)!);
  const total = (pick: (sum: { loss: number; tokens: number }) => number) =>
    sums.reduce((sum, each) => sum + pick(each), 0);
  return {
    accuracy: report.accuracy,
    precision: report.macro_precision,
    recall: report.macro_recall,
    f1: report.macro_f1,
    exactMatch: exactMatch(answers, references),
    loss: total(({ loss }) => loss) / total(({ tokens }) => tokens),
  };
}

async function ask(client: OpenAI, model: string, { messages }: ChatLine): Promise<string> {
  const answer = await client.chat.completions.create(
    {
      model,
      messages: messages.slice(0, -1) as OpenAI.Chat.ChatCompletionMessageParam[],
      temperature: 0,
      max_tokens: 16,
    },
    { signal: stop.signal },
  );
  return answer.choices[0]!.message.content ?? '';
}

/** Negative log-likelihood of the answer given the prompt, summed over its tokens including the end of turn. */
async function lossOf(client: OpenAI, model: string, line: ChatLine, tokenizer: Tokenizer) {
  const [example] = makeSequences(line, tokenizer);
  const { choices } = await client.completions.create(
    { model, prompt: [...example!.tokens], echo: true, logprobs: 0, max_tokens: 0 },
    { signal: stop.signal },
  );
  const logprobs = choices[0]!.logprobs!.token_logprobs!;
  const learnt = logprobs.filter((_, i) => example!.trained[i] === 1);
  return { loss: -learnt.reduce((sum, logprob) => sum + logprob, 0), tokens: learnt.length };
}

async function inParallel<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const runner = async () => {
    for (let i = next++; i < items.length; i = next++) results[i] = await work(items[i]!);
  };
  await Promise.all(Array.from({ length: CONCURRENT }, runner));
  return results;
}

// ---- chat, and next steps

async function chat(client: OpenAI, model: string): Promise<void> {
  screen.heading('A chat with the fine-tuned model');
  const system = await readSystemMessage();
  for (const question of QUESTIONS) {
    const messages = [system, { role: 'user' as const, content: question }];
    screen.write(`you:   ${question}\nmodel: `);
    const stream = await client.chat.completions.create(
      { model, messages, temperature: 0, stream: true },
      { signal: stop.signal },
    );
    for await (const chunk of stream) screen.write(chunk.choices[0]?.delta.content ?? '');
    screen.write('\n');
  }
}

/** The system message of all samples, with which the model was trained. */
async function readSystemMessage(): Promise<OpenAI.Chat.ChatCompletionSystemMessageParam> {
  const [line] = (await readFile(join(root, 'samples', 'support-test.jsonl'), 'utf8')).split('\n');
  return JSON.parse(line!).messages[0];
}

async function sayCurlLines(key: string, model: string): Promise<void> {
  const messages = [await readSystemMessage(), { role: 'user', content: 'I forgot my password.' }];
  const address = 'http://127.0.0.1:8787';
  screen.heading('To continue, start it again (Ctrl-C stops it):');
  screen.say('ANNEAL_DATA_DIR=.anneal-quickstart npm start\n');
  screen.say(`curl ${address}/v1/models -H "Authorization: Bearer ${key}"`);
  screen.say(`curl ${address}/v1/chat/completions -H "Authorization: Bearer ${key}" -H "Content-Type: application/json" \\
  -d '${JSON.stringify({ model, messages })}'`);
  screen.say(`curl ${address}/v1/fine_tuning/jobs -H "Authorization: Bearer ${key}"`);
}

// ---- API key and formatting

/** Reuses the key of earlier runs, so that curl commands printed then still work. */
async function readKey(): Promise<string> {
  const path = join(home, 'api-key');
  const known = await readFile(path, 'utf8').catch(() => null);
  if (known) return known.trim();
  const key = newSecretKey();
  await mkdir(home, { recursive: true });
  await writeFile(path, `${key}\n`, { mode: 0o600 });
  return key;
}

function seconds(since: number): string {
  return ((Date.now() - since) / 1000).toFixed(0);
}
