// The main job with the client that openapi-typescript and openapi-fetch make of openapi/openapi.json. Prints each part that is done.
import createClient from 'openapi-fetch';
import type { paths } from './schema.d.ts';

const [url, key, model] = process.argv.slice(2) as [string, string, string];
const client = createClient<paths>({ baseUrl: url, headers: { authorization: `Bearer ${key}` } });

function value<Data>({ data, error }: { data?: Data; error?: unknown }): Data {
  if (data === undefined) throw new Error(JSON.stringify(error));
  return data;
}

const line = JSON.stringify({
  messages: [
    { role: 'user', content: 'What does the cow say?' },
    { role: 'assistant', content: 'moo' },
  ],
});
const file = value(
  await client.POST('/v1/files', {
    body: { file: `${line}\n`.repeat(12), purpose: 'fine-tune' },
    bodySerializer({ file, purpose }) {
      const form = new FormData();
      form.set('purpose', purpose);
      form.set('file', new Blob([file]), 'train.jsonl');
      return form;
    },
  }),
);
console.log('upload');

const made = value(
  await client.POST('/v1/fine_tuning/jobs', {
    body: {
      model,
      training_file: file.id,
      hyperparameters: { n_epochs: 2 },
      metadata: { team: 'typescript' },
    },
  }),
);
if (made.object !== 'fine_tuning.job') throw new Error(`a ${made.object}`);
const path = { fine_tuning_job_id: made.id };
let job = made;
while (job.status !== 'succeeded') {
  if (job.status === 'failed') throw new Error(job.error?.message);
  await new Promise(done => setTimeout(done, 100));
  job = value(await client.GET('/v1/fine_tuning/jobs/{fine_tuning_job_id}', { params: { path } }));
}
console.log('job');

const query = { metadata: { team: 'typescript' } };
const found = value(await client.GET('/v1/fine_tuning/jobs', { params: { query } }));
console.log(`found ${found.data.length}`);

const events = value(
  await client.GET('/v1/fine_tuning/jobs/{fine_tuning_job_id}/events', { params: { path } }),
);
if (!('has_more' in events)) throw new Error('a stream');
if (!events.data.some(event => event.type === 'metrics')) throw new Error('no metrics');
console.log('events');

let after: string | undefined;
const steps: number[] = [];
do {
  const page = value(
    await client.GET('/v1/fine_tuning/jobs/{fine_tuning_job_id}/checkpoints', {
      params: { path, query: { limit: 1, after } },
    }),
  );
  steps.push(...page.data.map(checkpoint => checkpoint.step_number));
  after = page.has_more ? page.last_id! : undefined;
} while (after !== undefined);
console.log(`checkpoints ${steps.length}`);

const models = value(await client.GET('/v1/models'));
if (!models.data.some(({ id }) => id === job.fine_tuned_model)) throw new Error('not in the list');
console.log('models');

const answer = value(
  await client.POST('/v1/chat/completions', {
    body: {
      model: job.fine_tuned_model!,
      messages: [{ role: 'user', content: 'What does the cow say?' }],
      max_completion_tokens: 4,
    },
  }),
);
if (answer.object !== 'chat.completion' || answer.choices.length !== 1) throw new Error('no answer');
console.log('chat');

const params = { path: { model: job.fine_tuned_model! } };
if (!value(await client.DELETE('/v1/models/{model}', { params })).deleted) throw new Error('not deleted');
value(await client.DELETE('/v1/files/{file_id}', { params: { path: { file_id: file.id } } }));
const missing = await client.GET('/v1/files/{file_id}', { params: { path: { file_id: file.id } } });
if (missing.response.status !== 404 || missing.error?.error.type !== 'invalid_request_error')
  throw new Error('no 404');
console.log('delete');
