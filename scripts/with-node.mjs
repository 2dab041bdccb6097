// Runs a program of this project under Node 24 with the project's packages installed: `node scripts/with-node.mjs <file> [args]`.
// Plain JavaScript that Node 18 understands, because it is what brings Node 24 to a machine that has an older one.
// It is not a build step: once both are there it only starts the program.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const WANTED_MAJOR = 24;
const root = dirname(dirname(fileURLToPath(import.meta.url)));

const node = findNode();
installPackages(node);
run(node, process.argv.slice(2));

/** The path of a Node >= 24: the running one, or the one below .node/, which is installed from npm when it is missing. */
function findNode() {
  if (Number(process.versions.node.split('.')[0]) >= WANTED_MAJOR) return process.execPath;
  const name = `node-${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`;
  const folder = join(root, '.node');
  const path = join(folder, 'node_modules', name, 'bin', process.platform === 'win32' ? 'node.exe' : 'node');
  if (!existsSync(path)) {
    say(`this is Node ${process.versions.node}; bringing Node ${WANTED_MAJOR} into .node/`);
    mkdirSync(folder, { recursive: true });
    npm(process.execPath, ['install', '--prefix', folder, '--no-save', '--no-audit', '--no-fund', `${name}@${WANTED_MAJOR}`]);
  }
  return path;
}

/** Installs what package-lock.json names, unless it is installed already. */
function installPackages(node) {
  const wanted = createHash('sha256').update(readFileSync(join(root, 'package-lock.json'))).digest('hex');
  const stamp = join(root, 'node_modules', '.anneal-installed');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  say('installing packages');
  npm(node, ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
  writeFileSync(stamp, wanted);
}

/** Runs npm under the given Node: npm under an older one would choose older packages. */
function npm(node, args) {
  const cli = process.env.npm_execpath ?? npmBeside(process.execPath);
  const done = spawnSync(node, [cli, ...args], { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], env: withNode(node) });
  if (done.status === 0) return;
  if (args[0] === 'install') rmSync(join(root, '.node'), { recursive: true, force: true });
  say(`npm ${args.join(' ')} failed`);
  process.exit(done.status ?? 1);
}

function npmBeside(executable) {
  const candidates = ['../lib/node_modules/npm/bin/npm-cli.js', '../node_modules/npm/bin/npm-cli.js', 'node_modules/npm/bin/npm-cli.js'];
  const found = candidates.map(path => join(dirname(executable), path)).find(path => existsSync(path));
  if (found) return found;
  say('npm was not found beside node: run this with `npm run ...`');
  process.exit(1);
}

/** Starts the program, hands signals on to it and ends as it ends. */
function run(node, [program, ...args]) {
  const binary = join(root, 'node_modules', '.bin', program);
  const file = existsSync(binary) ? binary : join(root, program);
  const child = spawn(node, [file, ...args], { stdio: 'inherit', env: withNode(node) });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 143)));
}

function withNode(node) {
  const separator = process.platform === 'win32' ? ';' : ':';
  return { ...process.env, PATH: [dirname(node), join(root, 'node_modules', '.bin'), process.env.PATH].join(separator) };
}

function say(text) {
  process.stderr.write(`anneal: ${text}\n`);
}
