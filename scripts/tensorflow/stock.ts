// The `stock` source: binding and library as built by the publisher of the npm package. Compiles nothing.
import { execFileSync } from 'node:child_process';
import { createWriteStream, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { say } from '../setup/say.ts';
import type { Target } from './source.ts';

const CONNECT_TIMEOUT_MS = 8_000;
const REPORT_EVERY_BYTES = 50 * 2 ** 20;

/** Node-API version of the published binding. */
const NODE_API = 'napi-v8';

/** The package's own environment variable for a mirror. */
const host = (): string => process.env.TFJS_NODE_CDN_STORAGE ?? 'https://storage.googleapis.com/';

/** Throws after CONNECT_TIMEOUT_MS if the host does not respond. */
async function connect(url: string): Promise<Response> {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), CONNECT_TIMEOUT_MS);
  try {
    return await fetch(url, { signal: controller.signal });
  } catch (error) {
    if (controller.signal.aborted)
      throw new Error(`${url} does not answer within ${CONNECT_TIMEOUT_MS / 1000} s`);
    const { cause } = error as Error;
    throw new Error(`${url} cannot be reached${cause ? `: ${(cause as Error).message}` : ''}`, {
      cause: error,
    });
  } finally {
    clearTimeout(timer);
  }
}

async function open(url: string): Promise<Response> {
  const response = await connect(url);
  if (!response.ok) throw new Error(`${url} answers ${response.status}`);
  return response;
}

async function* withProgress(body: AsyncIterable<Uint8Array>, totalBytes: number) {
  let bytes = 0;
  let reported = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes - reported >= REPORT_EVERY_BYTES) {
      reported = bytes;
      say(`  ${Math.round(bytes / 2 ** 20)} of ${totalBytes ? Math.round(totalBytes / 2 ** 20) : '?'} MiB`);
    }
    yield chunk;
  }
}

/** Downloads and unpacks an archive, without the first `strip` components of its paths. */
async function unpack(url: string, folder: string, strip: number): Promise<void> {
  const response = await open(url);
  say(`fetching ${url}`);
  const archive = `${folder}.tar.gz`;
  mkdirSync(folder, { recursive: true });
  const body = Readable.fromWeb(response.body as never);
  const totalBytes = Number(response.headers.get('content-length') ?? 0);
  await pipeline(withProgress(body, totalBytes), createWriteStream(archive));
  execFileSync('tar', ['-xzf', archive, `--strip-components=${strip}`], { cwd: folder });
  rmSync(archive);
}

/** TensorFlow version that the package was built against. */
function libraryVersion(packageFolder: string): string {
  const constants = readFileSync(join(packageFolder, 'scripts', 'deps-constants.js'), 'utf8');
  return /LIBTENSORFLOW_VERSION = '([\d.]+)'/.exec(constants)![1]!;
}

/** -> version of the library */
export async function setUpStock({ device, packageFolder, packageVersion }: Target): Promise<string> {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new Error(`there is no stock binary for ${process.platform} ${process.arch}`);
  const kind = device === 'cuda' ? 'gpu' : 'cpu';
  const version = libraryVersion(packageFolder);
  say(`trying the stock binary (TensorFlow ${version})`);
  const binding = `tf-builds/pre-built-binary/${NODE_API}/${packageVersion}/${kind.toUpperCase()}-linux-${packageVersion}.tar.gz`;
  const library = `tensorflow/libtensorflow/libtensorflow-${kind}-linux-x86_64-${version}.tar.gz`;
  await unpack(`${host()}${binding}`, join(packageFolder, 'lib', NODE_API), 1);
  await unpack(`${host()}${library}`, join(packageFolder, 'deps'), 0);
  return version;
}
