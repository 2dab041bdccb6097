// A local server that speaks the part of the Hugging Face hub's API that a download needs, over the files of a folder.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

export interface HubServer {
  readonly url: string;
  /** `METHOD path`, in order. */
  readonly requests: string[];
  close(): Promise<void>;
}

export interface HubOptions {
  readonly repo: string;
  readonly revision: string;
  readonly folder: string;
  /** Asked for where it is set. */
  readonly token?: string;
  /** Serves other bytes for this file than it lists. */
  readonly broken?: string;
}

export async function startHub(options: HubOptions): Promise<HubServer> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    answer(options, request, response);
  });
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    requests,
    close: () => new Promise(done => server.close(() => done())),
  };
}

function answer(options: HubOptions, request: IncomingMessage, response: ServerResponse): void {
  const { repo, revision, token } = options;
  const path = decodeURIComponent(request.url!.split('?')[0]!);
  const files = `/${repo}/resolve/${revision}/`;
  if (token && request.headers.authorization !== `Bearer ${token}`) refuse(response, 401, 'GatedRepo');
  else if (path === `/api/models/${repo}/tree/${revision}`) sendJson(response, listing(options));
  else if (path.startsWith(files)) sendFile(options, path.slice(files.length), request, response);
  else refuse(response, 404, 'RepoNotFound');
}

function listing({ folder }: HubOptions): object[] {
  return readdirSync(folder, { encoding: 'utf8', recursive: true }).map(path => {
    if (statSync(join(folder, path)).isDirectory()) return { type: 'directory', path, size: 0, oid: '' };
    const bytes = readFileSync(join(folder, path));
    const oid = createHash('sha256').update(bytes).digest('hex');
    const large = path.endsWith('.safetensors') && { lfs: { oid, size: bytes.length, pointerSize: 134 } };
    return { type: 'file', path, size: bytes.length, oid: oid.slice(0, 40), ...large };
  });
}

function sendFile(
  options: HubOptions,
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const bytes = Buffer.from(readFileSync(join(options.folder, path)));
  if (options.broken === path) bytes[bytes.length - 1]! ^= 1;
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  const start = Number(range?.[1] ?? 0);
  const end = range?.[2] ? Math.min(Number(range[2]) + 1, bytes.length) : bytes.length;
  response.writeHead(range ? 206 : 200, {
    'content-length': end - start,
    'content-type': 'application/octet-stream',
    etag: `"${path}"`,
    ...(range && { 'content-range': `bytes ${start}-${end - 1}/${bytes.length}` }),
  });
  response.end(bytes.subarray(start, end));
}

function sendJson(response: ServerResponse, body: object): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

function refuse(response: ServerResponse, status: number, code: string): void {
  response
    .writeHead(status, { 'content-type': 'application/json', 'x-error-code': code })
    .end('{"error":"no"}');
}
