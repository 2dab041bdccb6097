// A fuzzer that reads the OpenAPI document (schemathesis) against a live api and worker: whatever it sends, no answer is a fault
// of the server, has an undocumented status or is not what the document says, and nothing outside the document is accepted.
// ANNEAL_FUZZ_EXAMPLES=300 makes it look longer, ANNEAL_FUZZ_ARGUMENTS="--seed 7" elsewhere; ANNEAL_FUZZ_REPORT names a file for all it says.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { startWorker, type Worker } from '../../src/queue/worker.ts';
import { waitFor } from '../queue/setting.ts';
import { ADAPTER, BASE, PLAIN, useServing } from '../serving/serving.ts';
import { usePython } from '../support/python.ts';
import { BASE_MODEL } from '../support/server.ts';
import { documentForFuzzer, fuzzerConfig } from './fuzzer-config.ts';

/** Of each operation; besides, the fuzzer tries every limit of every parameter once. */
const EXAMPLES = Number(process.env.ANNEAL_FUZZ_EXAMPLES ?? 5);
const TIMEOUT_MS = 240_000 + EXAMPLES * 60_000;
const SEED = 20260823;

// Webhooks would be sent to the names that the fuzzer makes up.
vi.mock('../../src/webhooks/send.ts', () => ({
  sendWebhook: async () => ({ statusCode: null, error: 'nothing is sent in this test' }),
}));

const python = usePython(['schemathesis==4.32.5']);
const server = useServing({ environment: { ANNEAL_THREADS: '1' } });
let worker: Worker;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-fuzz-'));
  worker = await startWorker(server.deps);
  // a model without files, which only tests have
  await server.database.pool.query('delete from models where id = $1', [BASE_MODEL]);
});
afterAll(async () => {
  await worker?.close();
  await rm(folder, { recursive: true, force: true });
});

const jsonl = (value: object, times: number) =>
  new File([`${JSON.stringify(value)}\n`.repeat(times)], 'lines.jsonl');

/** A thing of each kind, and its names. */
async function known(): Promise<Record<string, string[]>> {
  const { client, projectId } = server;
  const conversation = [
    { role: 'user', content: 'a' },
    { role: 'assistant', content: 'b' },
  ];
  const training = await client.files.create({
    file: jsonl({ messages: conversation }, 12),
    purpose: 'fine-tune',
  });
  const request = {
    custom_id: 'a',
    method: 'POST',
    url: '/v1/embeddings',
    body: { model: BASE, input: 'a' },
  };
  const lines = await client.files.create({ file: jsonl(request, 1), purpose: 'batch' });
  const job = await client.fineTuning.jobs.create({ model: BASE, training_file: training.id });
  const upload = await client.uploads.create({
    filename: 'a.jsonl',
    bytes: 9,
    mime_type: 'text/jsonl',
    purpose: 'fine-tune',
  });
  const batch = await client.batches.create({
    input_file_id: lines.id,
    endpoint: '/v1/embeddings',
    completion_window: '24h',
  });
  const evaluation = await client.evals.create({
    data_source_config: { type: 'custom', item_schema: { type: 'object' } },
    testing_criteria: [
      { type: 'string_check', name: 'same', input: 'a', reference: '{{item.a}}', operation: 'eq' },
    ],
  });
  const run = await client.evals.runs.create(evaluation.id, {
    data_source: { type: 'jsonl', source: { type: 'file_content', content: [{ item: { a: 'a' } }] } },
  });
  const items = () => client.evals.runs.outputItems.list(run.id, { eval_id: evaluation.id });
  const [item] = await waitFor('an item', async () => {
    const { data } = await items();
    return data.length > 0 && data;
  });
  const completion = await client.chat.completions.create({
    model: BASE,
    max_tokens: 2,
    store: true,
    messages: [{ role: 'user', content: 'a' }],
  });
  const response = await client.responses.create({ model: BASE, max_output_tokens: 16, input: 'a' });
  const endpoint = await client.webhooks.create({
    name: 'a',
    url: 'https://hooks.example.com/',
    event_types: ['batch.failed'],
  });
  const account = await server.admin.projects.serviceAccounts.create(projectId, { name: 'a' });
  const models = [BASE, PLAIN, ADAPTER];
  return {
    'path.model': models,
    'path.fine_tuned_model_checkpoint': [ADAPTER],
    'path.file_id': [training.id],
    'path.fine_tuning_job_id': [job.id],
    'path.upload_id': [upload.id],
    'path.batch_id': [batch.id],
    'path.eval_id': [evaluation.id],
    'path.run_id': [run.id],
    'path.output_item_id': [item!.id],
    'path.completion_id': [completion.id],
    'path.response_id': [response.id],
    'path.webhook_endpoint_id': [endpoint.id],
    'path.service_account_id': [account.id],
    'path.project_id': [projectId],
    'body.model': models,
    'body.training_file': [training.id],
    'body.input_file_id': [lines.id],
  };
}

test.skipIf(!python)(
  'the fuzzer finds nothing',
  async () => {
    const config = join(folder, 'schemathesis.toml');
    const document = join(folder, 'openapi.json');
    await writeFile(document, JSON.stringify(documentForFuzzer(server.app.swagger())));
    const { key, adminKey, url } = server;
    await writeFile(config, fuzzerConfig({ key, adminKey, known: await known() }));
    const found = ['--config-file', config, 'run', document, '--url', url];
    const bounds = ['--seed', String(SEED), '--max-examples', String(EXAMPLES)];
    const args = [...found, ...bounds, ...(process.env.ANNEAL_FUZZ_ARGUMENTS?.split(' ') ?? [])];
    const script = 'import sys, schemathesis.cli; schemathesis.cli.schemathesis(sys.argv[1:])';
    const said = await python!.run(script, args).catch(error => `${error.stdout}${error.stderr}`);
    if (process.env.ANNEAL_FUZZ_REPORT) await writeFile(process.env.ANNEAL_FUZZ_REPORT, said);
    expect(said).toMatch(/No issues found/);
  },
  TIMEOUT_MS,
);
