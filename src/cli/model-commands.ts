// `anneal models add` and `anneal models list`: arguments and output. The work is done in add-model.ts and hub.ts.
import { access, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Command } from 'commander';
import { openBlobs } from '../blobs/open.ts';
import type { Config } from '../config.ts';
import { listNames, ModelError } from '../models/model-error.ts';
import { listBaseModels } from '../store/models.ts';
import { type AddedModel, registerBaseModel } from './add-model.ts';
import type { CommandContext } from './context.ts';
import { formatBytes, showTransfers } from './progress-bar.ts';
import { printTable } from './table.ts';

interface AddOptions {
  id?: string;
  revision: string;
}

const REPO = /^[\w.-]+\/[\w.-]+$/;

export function addModelCommands(program: Command, context: CommandContext): void {
  const models = program.command('models').description('manage base models');
  models
    .command('add')
    .description('add a base model from a Hugging Face folder or a hub')
    .argument('<source>', 'path of a folder, or owner/name of a model on the hub')
    .option('--id <name>', 'name of the model here; default: the last part of the source')
    .option('--revision <name>', 'branch, tag or commit on the hub', 'main')
    .action((source: string, options: AddOptions) =>
      context.run(config => add(context, config, source, options)),
    );
  models
    .command('list')
    .description('list base models')
    .action(() => context.run(config => list(context, config)));
}

async function add(
  context: CommandContext,
  config: Config,
  source: string,
  { id, revision }: AddOptions,
): Promise<void> {
  const isFolder = await access(join(source, 'config.json')).then(
    () => true,
    () => false,
  );
  if (!isFolder && !REPO.test(source))
    throw new ModelError(
      `${source} is neither a folder with a config.json nor the id of a model on the hub (owner/name)`,
    );
  const name = id ?? basename(source.replace(/\/+$/, ''));
  const folder = isFolder ? source : join(config.dataDirectory, 'downloads', name);
  if (!isFolder) {
    const { hubUrl, hubToken: token } = config;
    const { downloadModel } = await import('./hub.ts');
    await downloadModel({
      repo: source,
      revision,
      hubUrl,
      token,
      into: folder,
      onProgress: showTransfers(process.stderr),
    });
  }
  await context.withDatabase(config, async ({ pool }) => {
    const blobs = await openBlobs(config);
    say(await registerBaseModel({ pool, blobs }, folder, name, showTransfers(process.stderr)));
  });
  if (!isFolder) await rm(folder, { recursive: true, force: true });
}

function say({ id, architecture, parameters, sizeBytes, leftOut, changed }: AddedModel): void {
  const what = `${architecture}, ${(parameters / 1e6).toFixed(1)} million parameters, ${formatBytes(sizeBytes)}`;
  process.stdout.write(`${id} (${what}) ${changed ? 'is registered' : 'was registered already'}\n`);
  if (leftOut.length > 0) process.stdout.write(`not used (heads of other tasks): ${listNames(leftOut)}\n`);
}

async function list(context: CommandContext, config: Config): Promise<void> {
  await context.withDatabase(config, async ({ pool }) => {
    const models = await listBaseModels(pool);
    const rows = models.map(({ id, architecture, files, createdAt }) => [
      id,
      architecture,
      formatBytes(files.reduce((sum, { bytes }) => sum + bytes, 0)),
      createdAt.toISOString().slice(0, 10),
    ]);
    process.stdout.write(printTable(['model', 'architecture', 'size', 'added'], rows));
  });
}
