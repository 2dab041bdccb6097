// Runs a module in a child process that reads a spec from a file and sends one answer. For native work, which may block or crash its
// process.
import { fork } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cudaEnvironment } from '../engine/onnx/cuda.ts';

const KEPT_OUTPUT = 4000;

export interface ChildQuestion {
  /** Path of the module, which reads the path of the spec from its arguments. */
  readonly module: string;
  readonly specPath: string;
  /** For messages: `the dry run`. */
  readonly what: string;
  readonly signal: AbortSignal;
}

/** Rejects when the signal is aborted, with its reason, and when the process ends without an answer. */
export function askChild<Answer>({ module, specPath, what, signal }: ChildQuestion): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  signal.throwIfAborted();
  const child = fork(module, [specPath], {
    serialization: 'advanced',
    execArgv: [],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    detached: true,
    env: cudaEnvironment(),
  });
  const kill = () => void child.kill('SIGKILL');
  signal.addEventListener('abort', kill, { once: true });
  let output = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(-KEPT_OUTPUT);
  });
  child.once('message', answer => resolve(answer as Answer));
  child.once('error', reject);
  child.once('close', (code, killedBy) => {
    signal.removeEventListener('abort', kill);
    reject(
      signal.aborted ? signal.reason : new Error(`${what} ended with ${code ?? killedBy}: ${output.trim()}`),
    );
  });
  return promise;
}

export interface SmallQuestion extends Omit<ChildQuestion, 'specPath'> {
  readonly spec: object;
}

/** Like `askChild`, with the spec written to a temporary folder. */
export async function askWithSpec<Answer>({ spec, ...question }: SmallQuestion): Promise<Answer> {
  const directory = await mkdtemp(join(tmpdir(), 'anneal-ask-'));
  try {
    const specPath = join(directory, 'spec.json');
    await writeFile(specPath, JSON.stringify(spec));
    return await askChild<Answer>({ ...question, specPath });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
