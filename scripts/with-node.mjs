// Runs a program of this project with Node 24 and installed packages: `node scripts/with-node.mjs [flags of Node] <file> [args]`.
// Plain JavaScript for Node 18, because it installs Node 24 on machines with an older version. Not a build step: once both are installed,
// it only starts the program.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const WANTED_MAJOR = 24;
const root = dirname(dirname(fileURLToPath(import.meta.url)));

const node = findNode();
installPackages(node);
run(node, process.argv.slice(2));

/** Path of a Node >= 24: the running one, or the one in .node/, installed from npm if missing. */
function findNode() {
  if (Number(process.versions.node.split('.')[0]) >= WANTED_MAJOR) return process.execPath;
  const name = `node-${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`;
  const folder = join(root, '.node');
  const path = join(folder, 'node_modules', name, 'bin', process.platform === 'win32' ? 'node.exe' : 'node');
  if (!existsSync(path)) {
    say(`this is Node ${process.versions.node}; bringing Node ${WANTED_MAJOR} into .node/`);
    mkdirSync(folder, { recursive: true });
    npm(process.execPath, [
      'install',
      '--prefix',
      folder,
      '--no-save',
      '--no-audit',
      '--no-fund',
      `${name}@${WANTED_MAJOR}`,
    ]);
  }
  return path;
}

/**
 * Installs the packages in package-lock.json if needed. Not with `npm ci`, which rejects a lock file that was created with a registry
 * that lacks the optional packages of other platforms.
 */
function installPackages(node) {
  if (isInstalled()) return;
  say('installing packages');
  npm(node, ['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error']);
}

/** Compares with node_modules/.package-lock.json, which npm writes last. It omits packages of other platforms, which are optional. */
function isInstalled() {
  const there = readLock(join(root, 'node_modules', '.package-lock.json'));
  const wanted = readLock(join(root, 'package-lock.json'));
  return Object.entries(wanted).every(
    ([path, { version, optional }]) => path === '' || optional || there[path]?.version === version,
  );
}

function readLock(path) {
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')).packages : {};
}

/** Runs npm with the given Node: under an older one it would select older packages. */
function npm(node, args) {
  const done = spawnSync(node, [findNpm(), ...args], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: withNode(node),
  });
  if (done.status === 0) return;
  if (args.includes('--prefix')) rmSync(join(root, '.node'), { recursive: true, force: true });
  say(`npm ${args.join(' ')} failed`);
  process.exit(done.status ?? 1);
}

/** The npm that runs this script, the one of this Node, or the first on the PATH. */
function findNpm() {
  const here = dirname(realpathSync(process.execPath));
  const beside = ['../lib/node_modules/npm/bin/npm-cli.js', 'node_modules/npm/bin/npm-cli.js'].map(path =>
    join(here, path),
  );
  const onPath = (process.env.PATH ?? '').split(delimiter).map(folder => join(folder, 'npm'));
  const candidates = [process.env.npm_execpath ?? '', ...beside, ...onPath]
    .filter(existsSync)
    .map(path => realpathSync(path));
  const found = candidates.find(path => path.endsWith('npm-cli.js'));
  if (found) return found;
  say('npm was not found: install it, or run this with `npm run ...`');
  process.exit(1);
}

/** Starts the program, forwards signals and exits with its code. Flags before the file are Node's. */
function run(node, given) {
  const flags = given.slice(
    0,
    given.findIndex(arg => !arg.startsWith('-')),
  );
  const [program, ...args] = given.slice(flags.length);
  const binary = join(root, 'node_modules', '.bin', program);
  const file = existsSync(binary) ? binary : join(root, program);
  const child = spawn(node, [...flags, file, ...args], { stdio: 'inherit', env: withNode(node) });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 143)));
  if (process.env.npm_lifecycle_event) endWithParent(child);
}

/** npm sends signals only to its shell, which dies without forwarding them, so the program is terminated when the parent changes. */
function endWithParent(child) {
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watch);
    child.kill();
  }, 500);
}

/** With a shared compile cache: it saves half of the startup time and 20 MB per process. */
function withNode(node) {
  return {
    NODE_COMPILE_CACHE: join(root, 'node_modules', '.cache', 'node'),
    ...process.env,
    PATH: [dirname(node), join(root, 'node_modules', '.bin'), process.env.PATH].join(delimiter),
  };
}

function say(text) {
  process.stderr.write(`anneal: ${text}\n`);
}
