// `npm run pretrain:tiny [-- --out <folder>] [--work <folder>]`: pre-trains anneal-tiny with this project's engine.
// Stopped at any time, it goes on where it was. The numbers are in recipe.ts, the text in corpus.ts.
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { recipe } from './recipe.ts';
import { pretrain } from './run.ts';

const root = join(import.meta.dirname, '..', '..');
const { values } = parseArgs({
  options: {
    out: { type: 'string', default: join(root, 'models', recipe.name) },
    work: { type: 'string', default: join(root, 'build', 'pretraining') },
  },
});
const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop.abort());
const finished = await pretrain({
  recipe,
  work: values.work,
  out: values.out,
  signal: stop.signal,
  say: text => process.stderr.write(`pretrain: ${text}\n`),
});
process.exit(finished ? 0 : 130);
