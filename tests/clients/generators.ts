// How a client is generated from openapi/openapi.json in each language, compiled and run. What is fetched is kept in build/test-tools,
// which git ignores. It starts no server.
import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { usePython } from '../support/python.ts';

const DOCUMENT = join(import.meta.dirname, '../../openapi/openapi.json');
const TOOLS = join(import.meta.dirname, '../../build/test-tools/clients');
const OPENAPI_GENERATOR = '7.25.0';

/** Where the server is, the key, and the model to train. */
export type ProgramArguments = readonly [url: string, key: string, model: string];

interface Generator {
  /** Programs that must be on the machine. */
  needs: readonly string[];
  /** Makes the client and compiles the program in the folder; resolves to how the program is run. */
  build(folder: string): Promise<(args: ProgramArguments) => Promise<string>>;
}

const execute = promisify(execFile);

async function run(program: string, args: readonly string[], cwd: string, environment = {}): Promise<string> {
  const env = { ...process.env, ...environment };
  const { stdout } = await execute(program, args, { cwd, env, maxBuffer: 2 ** 26 }).catch(error => {
    throw new Error(`${program} ${args.join(' ')}: ${error.stdout}${error.stderr}`, { cause: error });
  });
  return stdout;
}

/** The folder of the language with its program in it; runs its generator. */
export async function buildProgram(language: keyof typeof generators) {
  const folder = join(TOOLS, language);
  await mkdir(folder, { recursive: true });
  await cp(join(import.meta.dirname, language), folder, { recursive: true });
  return generators[language].build(folder);
}

export function missingPrograms(language: keyof typeof generators): string[] {
  return generators[language].needs.filter(program => spawnSync(program, ['version']).error !== undefined);
}

async function buildTypeScript(folder: string) {
  await writeFile(join(folder, 'package.json'), JSON.stringify({ type: 'module', private: true }));
  const packages = [
    'openapi-typescript@7.13.0',
    'openapi-fetch@0.17.0',
    'typescript@5.9.3',
    '@types/node@24',
  ];
  if (!existsSync(join(folder, 'node_modules')))
    await run('npm', ['install', '--no-audit', '--no-fund', '--no-save', ...packages], folder);
  const tool = (path: string, ...args: string[]) =>
    run(process.execPath, [join('node_modules', path), ...args], folder);
  await tool('openapi-typescript/bin/cli.js', DOCUMENT, '-o', 'schema.d.ts');
  const options = ['--noEmit', '--strict', '--allowImportingTsExtensions', '--skipLibCheck'];
  await tool('typescript/bin/tsc', ...options, '--module', 'nodenext', '--target', 'es2024', 'main.ts');
  return (args: ProgramArguments) => run(process.execPath, ['main.ts', ...args], folder);
}

async function buildPython(folder: string) {
  const python = usePython(['openapi-python-client==0.29.1']);
  if (!python) throw new Error('openapi-python-client cannot be installed');
  const output = ['--output-path', join(folder, 'anneal'), '--overwrite', '--meta', 'none'];
  await python.run('from openapi_python_client.cli import app; app()', [
    'generate',
    '--path',
    DOCUMENT,
    ...output,
  ]);
  const program = await readFile(join(folder, 'main.py'), 'utf8');
  const path = `import sys; sys.path.insert(0, ${JSON.stringify(folder)})\n`;
  return (args: ProgramArguments) => python.run(path + program, args);
}

async function buildGo(folder: string) {
  const environment = {
    GOMODCACHE: join(TOOLS, 'go-modules'),
    GOCACHE: join(TOOLS, 'go-cache'),
    GOFLAGS: '-modcacherw',
  };
  const go = (...args: string[]) => run('go', args, folder, environment);
  await mkdir(join(folder, 'anneal'), { recursive: true });
  if (!existsSync(join(folder, 'go.mod'))) {
    await go('mod', 'init', 'example.com/client');
    await go('get', '-tool', 'github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2');
  }
  await go('tool', 'oapi-codegen', '-config', 'oapi-codegen.yaml', DOCUMENT);
  await go('mod', 'tidy');
  await go('build', '-o', 'program', '.');
  return (args: ProgramArguments) => run(join(folder, 'program'), args, folder);
}

async function buildJava(folder: string) {
  const maven = (cwd: string, ...args: string[]) =>
    run('mvn', ['-q', '-B', `-Dmaven.repo.local=${join(folder, 'maven')}`, ...args], cwd);
  const generator = `openapi-generator-cli-${OPENAPI_GENERATOR}.jar`;
  if (!existsSync(join(folder, generator))) {
    const artifact = `-Dartifact=org.openapitools:openapi-generator-cli:${OPENAPI_GENERATOR}`;
    await maven(folder, 'dependency:copy', artifact, '-DoutputDirectory=.');
  }
  const client = join(folder, 'client');
  await rm(client, { recursive: true, force: true });
  const names = 'invokerPackage=anneal,apiPackage=anneal.api,modelPackage=anneal.model';
  const output = ['-o', 'client', '--generate-alias-as-model', '--additional-properties', names];
  const parts = ['--global-property', 'apiTests=false,modelTests=false,apiDocs=false,modelDocs=false'];
  await run(
    'java',
    ['-jar', generator, 'generate', '-g', 'java', '-i', DOCUMENT, ...output, ...parts],
    folder,
  );
  if (!existsSync(join(folder, 'libraries')))
    await maven(
      client,
      'dependency:copy-dependencies',
      '-DincludeScope=compile',
      '-DoutputDirectory=../libraries',
    );
  const classpath = ['classes', join('libraries', '*')].join(delimiter);
  const sourcepath = join('client', 'src', 'main', 'java');
  await run(
    'javac',
    ['-nowarn', '-cp', classpath, '-sourcepath', sourcepath, '-d', 'classes', 'Main.java'],
    folder,
  );
  return (args: ProgramArguments) => run('java', ['-cp', classpath, 'Main', ...args], folder);
}

export const generators = {
  typescript: { needs: ['npm'], build: buildTypeScript },
  python: { needs: ['python3', 'pip'], build: buildPython },
  go: { needs: ['go'], build: buildGo },
  java: { needs: ['java', 'javac', 'mvn'], build: buildJava },
} as const satisfies Record<string, Generator>;
