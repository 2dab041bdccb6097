// `anneal keys create | list | revoke`. A new key is printed once; the database keeps its hash only.
import type { Command } from 'commander';
import { newSecretKey } from '../ids.ts';
import { insertApiKey, listApiKeys, revokeApiKey } from '../store/api-keys.ts';
import { ensureDefaultProject, insertProject } from '../store/projects.ts';
import type { CommandContext } from './context.ts';
import { printTable } from './table.ts';

interface CreateOptions {
  name: string;
  project?: string;
}

export function addKeyCommands(program: Command, context: CommandContext): void {
  const keys = program.command('keys').description('the API keys that the service accepts');
  keys
    .command('create')
    .description('make a key and print it; it is shown only this once')
    .option('--name <name>', 'what it is for', 'key')
    .option('--project <name>', 'make a new project for it: its files, jobs and models are its own')
    .action((options: CreateOptions) =>
      context.run(config =>
        context.withDatabase(config, async ({ pool }) => {
          const project = options.project
            ? await insertProject(pool, { name: options.project })
            : await ensureDefaultProject(pool);
          const secret = newSecretKey();
          await insertApiKey(pool, { projectId: project.id, name: options.name, secret });
          process.stdout.write(`${secret}\n`);
        }),
      ),
    );

  keys
    .command('list')
    .description('show the keys that work, by their ids')
    .action(() =>
      context.run(config =>
        context.withDatabase(config, async ({ pool }) => {
          const rows = (await listApiKeys(pool)).map(key => [
            key.id,
            key.hint,
            key.name,
            key.project,
            key.createdAt.toISOString().slice(0, 10),
            key.lastUsedAt?.toISOString().slice(0, 10) ?? 'never',
          ]);
          process.stdout.write(printTable(['id', 'key', 'name', 'project', 'created', 'last used'], rows));
        }),
      ),
    );
  keys
    .command('revoke <id>')
    .description('make a key useless, at once')
    .action((id: string) =>
      context.run(config =>
        context.withDatabase(config, async ({ pool }) => {
          if (!(await revokeApiKey(pool, id)))
            throw new Error(`there is no key ${id}: see \`anneal keys list\``);
        }),
      ),
    );
}
