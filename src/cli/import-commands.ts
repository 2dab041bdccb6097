// `anneal import openai`: arguments and output. The import itself is in src/importing.
import { type Command, Option } from 'commander';
import { openBlobs } from '../blobs/open.ts';
import type { Config } from '../config.ts';
import type { ImportOutcome, ImportProgress } from '../importing/import-openai.ts';
import { DEFAULT_PROJECT_ID, ensureDefaultProject, findProject } from '../store/projects.ts';
import type { CommandContext } from './context.ts';
import { bar } from './progress-bar.ts';

interface ImportCommandOptions {
  key: string;
  baseUrl: string;
  project: string;
}

export function addImportCommands(program: Command, context: CommandContext): void {
  const imports = program.command('import').description('import the history of another service');
  imports
    .command('openai')
    .description('import files, ended jobs, events and checkpoints of an OpenAI account; can be repeated')
    .addOption(
      new Option('--key <key>', 'API key of the account').env('OPENAI_API_KEY').makeOptionMandatory(),
    )
    .addOption(
      new Option('--base-url <url>', 'base URL of its API')
        .env('OPENAI_BASE_URL')
        .default('https://api.openai.com/v1'),
    )
    .option('--project <id>', 'project to import into', DEFAULT_PROJECT_ID)
    .action((options: ImportCommandOptions) =>
      context.run(config => importAccount(context, config, options)),
    );
}

async function importAccount(
  context: CommandContext,
  config: Config,
  { key: apiKey, baseUrl: baseURL, project }: ImportCommandOptions,
): Promise<void> {
  const { default: OpenAI } = await import('openai');
  const { importOpenai } = await import('../importing/import-openai.ts');
  const client = new OpenAI({ apiKey, baseURL, maxRetries: 5 });
  const counts = new Map<string, number>();
  await context.withDatabase(config, async ({ pool }) => {
    await ensureDefaultProject(pool);
    if (!(await findProject(pool, project))) throw new Error(`there is no project ${project}`);
    await importOpenai({
      client,
      pool,
      blobs: await openBlobs(config),
      projectId: project,
      report(progress) {
        process.stdout.write(`${lineOf(progress)}\n`);
        const name = `${progress.kind}s ${words[progress.outcome.type]}`;
        counts.set(name, (counts.get(name) ?? 0) + 1);
      },
    });
  });
  const summary = [...counts].map(([name, count]) => `${count} ${name}`).join(', ');
  process.stdout.write(`${summary || 'this account is empty'}\n`);
}

const words: Record<ImportOutcome['type'], string> = {
  imported: 'imported',
  present: 'already here',
  skipped: 'skipped',
};

function lineOf({ kind, id, done, total, outcome }: ImportProgress): string {
  const reason = outcome.type === 'skipped' ? `: ${outcome.reason}` : '';
  return `${bar(done, total)} ${kind} ${done}/${total}  ${id}  ${words[outcome.type]}${reason}`;
}
