// Every example of a request in the OpenAPI document, sent as it stands: it is accepted. Ids that the examples make up are
// replaced by those of things that exist; that the answers are as declared is checked of all tests (support/contract.ts).
import { beforeAll, expect, test } from 'vitest';
import type { Deps } from '../../src/deps.ts';
import { insertModel, upsertBaseModel } from '../../src/store/models.ts';
import { fakeGeneration } from '../support/fake-generation.ts';
import { useServer } from '../support/server.ts';
import { openReceiver, type Receiver } from '../webhooks/receiver.ts';

const BASE = 'anneal-tiny';
const FINE_TUNED = 'ft:anneal-tiny:personal:tickets:a1B2c3D4';
const EMBEDDER = 'all-MiniLM-L6-v2';

const generation = {
  ...fakeGeneration({ promptTokens: 2, completionTokens: 2 }),
  embed: async (_model, { inputs }) => ({
    type: 'embedded',
    vectors: inputs.map(() => new Float32Array([0.6, 0.8])),
    promptTokens: 2,
  }),
  classify: async (_model, inputs) => ({
    type: 'classified',
    problem: 'single',
    labels: ['safe', 'violence'],
    outputs: inputs.map(() => [0.9, 0.1]),
    promptTokens: 2,
  }),
} as Deps['generation'];
const environment = { ANNEAL_MODERATION_MODEL: FINE_TUNED, ANNEAL_WEBHOOK_NETWORKS: '127.0.0.1' };
const server = useServer({ environment, deps: () => ({ generation }) });
let receiver: Receiver;

beforeAll(async () => {
  receiver = await openReceiver();
  const { pool } = server.deps;
  const common = { architecture: 'llama', files: [] };
  for (const id of [BASE, EMBEDDER]) await upsertBaseModel(pool, { ...common, id, ownedBy: 'test' });
  const { projectId } = server;
  const row = { ...common, projectId, jobId: null, step: null, ownedBy: 'personal' };
  await insertModel(pool, { ...row, id: FINE_TUNED, kind: 'adapter', baseModel: BASE });
  return () => receiver.close();
});

// ---- the examples

interface Operation {
  operationId: string;
  security?: { AdminApiKey?: [] }[];
  requestBody?: { content: Record<string, { schema: { $ref: string } }> };
}

interface Example {
  operationId: string;
  path: string;
  isForm: boolean;
  isForAdmins: boolean;
  body: Record<string, unknown>;
}

const document = () =>
  server.app.swagger() as unknown as {
    paths: Record<string, Record<string, Operation>>;
    components: { schemas: Record<string, { examples?: Record<string, unknown>[] }> };
  };

function examplesOf(path: string, { operationId, security, requestBody }: Operation): Example[] {
  const isForAdmins = security?.[0]?.AdminApiKey !== undefined;
  return Object.entries(requestBody?.content ?? {}).flatMap(([type, { schema }]) => {
    const { examples = [] } = document().components.schemas[schema.$ref.split('/').at(-1)!]!;
    return examples.map(body => ({
      operationId,
      path,
      isForm: type.startsWith('multipart'),
      isForAdmins,
      body,
    }));
  });
}

const allExamples = (): Example[] =>
  Object.entries(document().paths).flatMap(([path, methods]) =>
    Object.values(methods).flatMap(operation => examplesOf(path, operation)),
  );

// ---- things that exist

const file = (purpose: 'fine-tune' | 'batch', line: object) =>
  server.client.files.create({ file: new File([`${JSON.stringify(line)}\n`], 'a.jsonl'), purpose });

const upload = () =>
  server.client.uploads.create({
    filename: 'a.jsonl',
    bytes: 6,
    mime_type: 'text/jsonl',
    purpose: 'fine-tune',
  });

async function serviceAccount() {
  const project = await server.admin.projects.create({ name: 'a' });
  const account = await server.admin.projects.serviceAccounts.create(project.id, { name: 'a' });
  return { project_id: project.id, service_account_id: account.id, api_key_id: account.api_key!.id };
}

const evaluation = async () => {
  const { id } = await server.client.evals.create({
    data_source_config: { type: 'custom', item_schema: { type: 'object' } },
    testing_criteria: [{ type: 'string_check', name: 'a', input: 'a', reference: 'a', operation: 'eq' }],
  });
  return { eval_id: id };
};

const project = async () => {
  const { id } = await server.admin.projects.create({ name: 'a' });
  return { project_id: id };
};

const endpoint = async () => {
  const event_types = ['fine_tuning.job.succeeded' as const];
  const { id } = await server.client.webhooks.create({ name: 'a', url: receiver.url, event_types });
  return { webhook_endpoint_id: id };
};

async function uploadWithParts() {
  const { id } = await upload();
  const part = (text: string) => server.client.uploads.parts.create(id, { data: new File([text], 'part') });
  const [first, second] = [await part('abc'), await part('def')];
  return {
    upload_id: id,
    part_Abc123Abc123Abc123Abc123: first.id,
    part_Def456Def456Def456Def456: second.id,
  };
}

const training = async () => ({
  'file-Abc123Abc123Abc123Abc123': (await file('fine-tune', { item: {} })).id,
});

/** Operation -> path values and the example's ids -> what they are here. */
const things: Record<string, () => Promise<Record<string, string>>> = {
  addUploadPart: async () => ({ upload_id: (await upload()).id }),
  completeUpload: uploadWithParts,
  createFineTuningJob: training,
  updateEval: evaluation,
  createEvalRun: async () => ({ ...(await evaluation()), ...(await training()) }),
  createBatch: async () => {
    const body = { model: BASE, messages: [{ role: 'user', content: 'a' }] };
    const line = { custom_id: 'a', method: 'POST', url: '/v1/chat/completions', body };
    return { 'file-Abc123Abc123Abc123Abc123': (await file('batch', line)).id };
  },
  updateChatCompletion: async () => {
    const messages = [{ role: 'user' as const, content: 'a' }];
    return {
      completion_id: (await server.client.chat.completions.create({ model: BASE, messages, store: true })).id,
    };
  },
  updateWebhookEndpoint: endpoint,
  rotateWebhookEndpointSecret: endpoint,
  testWebhookEndpoint: endpoint,
  modifyProject: project,
  updateProjectApiKey: serviceAccount,
  createProjectServiceAccount: project,
  updateProjectServiceAccount: serviceAccount,
  createProjectServiceAccountApiKey: serviceAccount,
  updateProjectRateLimit: async () => {
    const { project_id } = await project();
    const { data } = await server.admin.projects.rateLimits.listRateLimits(project_id);
    return { project_id, rate_limit_id: data[0]!.id };
  },
  updateProjectQuotas: project,
  createFineTuningCheckpointPermission: async () => ({
    fine_tuned_model_checkpoint: FINE_TUNED,
    proj_Abc123Abc123Abc123Abc123: (await project()).project_id,
  }),
};

// ---- sent

function formOf(body: Record<string, unknown>): FormData {
  const form = new FormData();
  for (const [name, value] of Object.entries(body)) {
    if (name === 'file' || name === 'data') form.set(name, new File([String(value)], 'train.jsonl'));
    else form.set(name, String(value));
  }
  return form;
}

async function send({ operationId, path, isForm, isForAdmins, body }: Example): Promise<Response> {
  const known = (await things[operationId]?.()) ?? {};
  const url = path.replaceAll(/\{(\w+)\}/g, (_, name: string) =>
    encodeURIComponent(known[name] ?? `no ${name}`),
  );
  const replace = (text: string) =>
    Object.entries(known).reduce((result, [from, to]) => result.replaceAll(`"${from}"`, `"${to}"`), text);
  const headers = { authorization: `Bearer ${isForAdmins ? server.adminKey : server.key}` };
  const type = { 'content-type': 'application/json' };
  const content = isForm
    ? { headers, body: formOf(body) }
    : { headers: { ...headers, ...type }, body: replace(JSON.stringify(body)) };
  return fetch(server.url + url, { method: 'POST', ...content });
}

test('every example of a request is accepted', async () => {
  const examples = allExamples();
  expect(examples.length).toBeGreaterThan(30);
  for (const example of examples) {
    const response = await send(example);
    const said = await response.text();
    expect([200, 201], `${example.operationId}: ${said}`).toContain(response.status);
  }
}, 60_000);
