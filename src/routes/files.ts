// /v1/files: upload, list, read and delete. Bytes go from the socket into the object store, never whole through memory.
import { extname } from 'node:path';
import type { Readable } from 'node:stream';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { type BlobInfo, BlobNotFound, BlobTooLarge } from '../blobs/blobs.ts';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import {
  exampleFile,
  expirySeconds,
  FileId,
  fileToWire,
  ListFilesQuery,
  uploadPurposes,
} from '../schemas/files.ts';
import { exampleList, toWireList } from '../schemas/lists.ts';
import * as store from '../store/files.ts';
import { findFilesInUse } from '../store/runs.ts';
import { describedOnly } from './validation.ts';

const tags = ['Files'];
const JSONL_PURPOSES = ['fine-tune', 'batch'];
const MIB = 2 ** 20;
const DRAIN_TIMEOUT_MS = 30_000;
/** What the form's parser says on the file's stream; other errors there are the store's. */
const FORM_BROKE_OFF = /terminated early|Unexpected end of multipart/;

export function fileRoutes(app: FastifyInstance, deps: Deps): void {
  app.post(
    '/v1/files',
    {
      validatorCompiler: describedOnly,
      schema: {
        operationId: 'createFile',
        tags,
        summary: 'Upload a file',
        description:
          'A multipart form with the fields in any order. Files for fine-tuning are JSON lines in UTF-8.',
        consumes: ['multipart/form-data'],
        body: Type.Ref('CreateFileRequest'),
        response: {
          200: json('The file.', Type.Ref('OpenAIFile'), exampleFile),
          ...errorResponses(400, 413, 503),
        },
      },
    },
    async request => {
      const upload = await receiveUpload(request, deps);
      return fileToWire(await storeUpload(deps, request.caller.projectId, upload));
    },
  );

  app.get<{ Querystring: ListFilesQuery }>(
    '/v1/files',
    {
      schema: {
        operationId: 'listFiles',
        tags,
        summary: 'List files',
        description: "The project's files, newest first.",
        querystring: ListFilesQuery,
        response: {
          200: json('A page of files.', Type.Ref('ListFilesResponse'), exampleList(exampleFile)),
          ...errorResponses(400),
        },
      },
    },
    async request => {
      const page = await store.listFiles(deps.pool, {
        projectId: request.caller.projectId,
        ...request.query,
      });
      return toWireList(page, fileToWire);
    },
  );

  app.get<{ Params: FileId }>(
    '/v1/files/:file_id',
    {
      schema: {
        operationId: 'retrieveFile',
        tags,
        summary: 'Look at a file',
        description: 'What is known of a file; its bytes are at `/content`.',
        params: FileId,
        response: { 200: json('The file.', Type.Ref('OpenAIFile'), exampleFile), ...errorResponses(404) },
      },
    },
    async request => fileToWire(await findFile(deps, request)),
  );

  app.get<{ Params: FileId }>(
    '/v1/files/:file_id/content',
    {
      schema: {
        operationId: 'downloadFile',
        tags,
        summary: 'Download a file',
        description: "The file's bytes, as they were uploaded or produced.",
        params: FileId,
        response: {
          200: {
            description: 'The bytes.',
            content: {
              'application/octet-stream': {
                schema: Type.String({ format: 'binary' }),
                example: '{"messages": []}\n',
              },
            },
          },
          ...errorResponses(404, 503),
        },
      },
    },
    async (request, reply) => {
      const file = await findFile(deps, request);
      const bytes = await deps.blobs.get(file.blobKey).catch(cause => {
        if (cause instanceof BlobNotFound) throw noSuchFile(file.id); // deleted this moment
        throw new ApiError('storage_unavailable', 'The object store does not answer.', { cause });
      });
      reply.type('application/octet-stream');
      reply.header('content-length', file.bytes);
      reply.header(
        'content-disposition',
        `attachment; filename*=UTF-8''${encodeURIComponent(file.filename)}`,
      );
      return reply.send(bytes);
    },
  );

  app.delete<{ Params: FileId }>(
    '/v1/files/:file_id',
    {
      schema: {
        operationId: 'deleteFile',
        tags,
        summary: 'Delete a file',
        description: 'The file is gone at once for everybody but the jobs that were created with it.',
        params: FileId,
        response: {
          200: json('It is deleted.', Type.Ref('DeleteFileResponse'), {
            id: exampleFile.id,
            object: 'file',
            deleted: true,
          }),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { file_id: id } = request.params;
      const file = await store.markFileDeleted(deps.pool, request.caller.projectId, id);
      if (!file) throw noSuchFile(id);
      await removeBytes(deps, file).catch(error => {
        deps.log.warn({ error, file: id }, 'the bytes of a deleted file stay until the next sweep');
      });
      return { id, object: 'file', deleted: true };
    },
  );
}

/** The second half of a deletion. What a job still reads, or what fails here, is removed by a sweep of the worker's. */
async function removeBytes(deps: Deps, file: store.File): Promise<void> {
  const inUse = await findFilesInUse(deps.pool, [file.id]);
  if (inUse.has(file.id)) return;
  await deps.blobs.delete(file.blobKey);
  await store.removeFile(deps.pool, file.id);
}

async function findFile(deps: Deps, request: FastifyRequest<{ Params: FileId }>): Promise<store.File> {
  const { file_id: id } = request.params;
  const file = await store.findFile(deps.pool, request.caller.projectId, id);
  if (!file) throw noSuchFile(id);
  return file;
}

export function noSuchFile(id: string, param = 'id'): ApiError {
  return new ApiError('not_found', `No such File object: ${id}`, { param });
}

// ---- uploads

interface Upload {
  id: string;
  filename: string;
  stored: BlobInfo;
  fields: Record<string, string>;
}

/** Reads the form to its end. When anything is wrong with it, nothing stays in the store. */
async function receiveUpload(request: FastifyRequest, deps: Deps): Promise<Upload> {
  if (!request.isMultipart()) {
    throw new ApiError(
      'unsupported_media_type',
      'Send the file as a form: Content-Type: multipart/form-data.',
    );
  }
  const form: Form = { id: store.newFileId(), fields: {}, file: null };
  try {
    refuseTooLarge(request, deps);
    await readParts(request, deps, form);
    if (!form.file) throw missing('file');
    checkFields(form.fields, form.file.filename, true);
    return { id: form.id, fields: form.fields, ...form.file };
  } catch (error) {
    if (form.file) await deps.blobs.delete(form.file.stored.key).catch(() => undefined);
    drain(request);
    throw error;
  }
}

interface Form {
  id: string;
  fields: Record<string, string>;
  file: Pick<Upload, 'filename' | 'stored'> | null;
}

async function readParts(request: FastifyRequest, deps: Deps, form: Form): Promise<void> {
  try {
    for await (const part of request.parts()) {
      if (part.type === 'field') form.fields[part.fieldname] = String(part.value);
      else if (part.fieldname !== 'file') throw unknownField(part.fieldname);
      else {
        const { filename, file } = part;
        checkFields({ ...form.fields }, filename, false);
        const stored = await storeBytes(request, deps, store.fileBlobKey(form.id), file);
        form.file = { filename, stored };
      }
    }
  } catch (cause) {
    const { statusCode, message } = cause as { statusCode?: number; message: string };
    if (cause instanceof ApiError || statusCode) throw cause;
    throw new ApiError('invalid_request', `The form cannot be read: ${message}`, { cause });
  }
}

/** Reads and drops what still comes, so that a client that only listens once it has sent all hears the answer. */
function drain(request: FastifyRequest): void {
  const timer = setTimeout(() => request.raw.destroy(), DRAIN_TIMEOUT_MS);
  request.raw.once('close', () => clearTimeout(timer));
  request.raw.unpipe();
  request.raw.resume();
}

/** A request that says itself that it is too large is refused before its bytes are read. */
function refuseTooLarge(request: FastifyRequest, deps: Deps): void {
  const announced = Number(request.headers['content-length'] ?? 0);
  if (announced > deps.config.fileLimitBytes + MIB) throw tooLarge(deps);
}

async function storeBytes(
  request: FastifyRequest,
  deps: Deps,
  key: string,
  bytes: Readable,
): Promise<BlobInfo> {
  const cut = new AbortController();
  const onClose = () => {
    if (!request.raw.complete) cut.abort(new Error('the client went away'));
  };
  request.raw.once('close', onClose);
  try {
    return await deps.blobs.put(key, bytes, { limitBytes: deps.config.fileLimitBytes, signal: cut.signal });
  } catch (cause) {
    if (cause instanceof BlobTooLarge) throw tooLarge(deps);
    if (cut.signal.aborted || FORM_BROKE_OFF.test((cause as Error).message)) throw cause;
    throw new ApiError('storage_unavailable', 'The file could not be stored; try again.', { cause });
  } finally {
    request.raw.off('close', onClose);
  }
}

function tooLarge(deps: Deps): ApiError {
  const limit = deps.config.fileLimitBytes / MIB;
  return new ApiError('file_too_large', `The file is larger than the limit of ${limit} MB.`, {
    param: 'file',
  });
}

/** Names the stored bytes in the database; bytes that cannot be named do not stay. */
async function storeUpload(deps: Deps, projectId: string, upload: Upload): Promise<store.File> {
  const { id, filename, stored, fields } = upload;
  const seconds = fields['expires_after[seconds]'];
  const file = {
    id,
    projectId,
    purpose: fields.purpose!,
    filename,
    bytes: stored.sizeBytes,
    sha256: stored.sha256,
    blobKey: stored.key,
    expiresAfterSeconds: seconds ? Number(seconds) : null,
  };
  try {
    return await store.insertFile(deps.pool, file);
  } catch (error) {
    await deps.blobs.delete(stored.key).catch(() => undefined);
    throw error;
  }
}

/** What has been read so far; only at the end of the form is something missing. */
function checkFields(fields: Record<string, string>, filename: string, whole: boolean): void {
  const { purpose, 'expires_after[anchor]': anchor, 'expires_after[seconds]': seconds, ...others } = fields;
  const unknown = Object.keys(others)[0];
  if (unknown !== undefined) throw unknownField(unknown);
  if (purpose !== undefined) checkPurpose(purpose, filename);
  else if (whole) throw missing('purpose');
  if (anchor !== undefined && anchor !== 'created_at') {
    throw new ApiError('invalid_value', `Invalid value: '${anchor}'. Supported values are: 'created_at'.`, {
      param: 'expires_after.anchor',
    });
  }
  if (seconds !== undefined) checkExpiry(seconds);
  if (whole && anchor !== undefined && seconds === undefined) throw missing('expires_after.seconds');
  if (whole && seconds !== undefined && anchor === undefined) throw missing('expires_after.anchor');
}

function checkPurpose(purpose: string, filename: string): void {
  if (!(uploadPurposes as readonly string[]).includes(purpose)) {
    const supported = uploadPurposes.map(one => `'${one}'`).join(', ');
    throw new ApiError('invalid_value', `Invalid value: '${purpose}'. Supported values are: ${supported}.`, {
      param: 'purpose',
    });
  }
  const extension = extname(filename).slice(1).toLowerCase();
  if (JSONL_PURPOSES.includes(purpose) && extension !== 'jsonl') {
    throw new ApiError(
      'invalid_file',
      `Invalid extension '${extension}' for purpose '${purpose}'. Supported formats: "jsonl".`,
      {
        param: 'file',
      },
    );
  }
}

function checkExpiry(text: string): void {
  const { minimum, maximum } = expirySeconds;
  const seconds = Number(text);
  if (/^\d+$/.test(text) && seconds >= minimum && seconds <= maximum) return;
  const message = `Invalid 'expires_after.seconds': expected an integer from ${minimum} to ${maximum}, but got '${text}' instead.`;
  throw new ApiError('invalid_value', message, { param: 'expires_after.seconds' });
}

function missing(name: string): ApiError {
  return new ApiError('missing_required_parameter', `Missing required parameter: '${name}'.`, {
    param: name,
  });
}

function unknownField(name: string): ApiError {
  return new ApiError('unknown_parameter', `Unknown parameter: '${name}'.`, { param: name });
}
