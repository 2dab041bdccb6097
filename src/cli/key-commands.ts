// `anneal keys create`: prints a new API key once; the database keeps its hash only.
import type { Command } from 'commander';
import { newSecretKey } from '../ids.ts';
import { insertApiKey } from '../store/api-keys.ts';
import { ensureDefaultProject, insertProject } from '../store/projects.ts';
import type { CommandContext } from './context.ts';

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
}
