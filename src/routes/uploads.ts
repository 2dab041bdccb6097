// /v1/uploads: large files in parts. Each part is an object; completing the upload joins them as a stream.
import { createHash, type Hash } from 'node:crypto';
import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { type BlobInfo, BlobNotFound, type Blobs } from '../blobs/blobs.ts';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { removeParts } from '../queue/expire-uploads.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import {
  type CompleteUploadBody,
  type CreateUploadBody,
  exampleCompletedUpload,
  examplePart,
  exampleUpload,
  partToWire,
  UploadId,
  uploadLimits,
  uploadToWire,
} from '../schemas/uploads.ts';
import type { Queryable } from '../store/database.ts';
import { fileBlobKey, newFileId } from '../store/files.ts';
import * as store from '../store/uploads.ts';
import { receiveFormFile, unknownField } from './form-file.ts';
import { answerOnce, type Commit } from './idempotency.ts';
import { checkExtension, keepIfNamed, nameBytes } from './new-files.ts';
import { checkRoom } from './quotas.ts';
import { describedOnly } from './validation.ts';

const tags = ['Uploads'];

export function uploadRoutes(app: FastifyInstance, deps: Deps): void {
  app.post<{ Body: CreateUploadBody }>(
    '/v1/uploads',
    {
      config: { answersOnce: true },
      schema: {
        operationId: 'createUpload',
        tags,
        summary: 'Create an upload',
        description:
          'For files of up to 8 GB. Add parts of up to 64 MB, in parallel if you like, and complete the upload within an hour.',
        body: Type.Ref('CreateUploadRequest'),
        response: {
          200: json('The upload.', Type.Ref('Upload'), exampleUpload),
          ...errorResponses(429),
        },
      },
    },
    async (request, reply) =>
      answerOnce(deps, request, reply, request.body, commit => {
        checkExtension(request.body.purpose, request.body.filename, 'filename');
        return commit(async tx => {
          await checkRoom(tx, request.caller.projectId, request.body.bytes);
          return uploadToWire(await createUpload(tx, request));
        });
      }),
  );

  app.post<{ Params: UploadId }>(
    '/v1/uploads/:upload_id/parts',
    {
      validatorCompiler: describedOnly,
      config: { answersOnce: true },
      schema: {
        operationId: 'addUploadPart',
        tags,
        summary: 'Add a part',
        description:
          'A multipart form with one field, `data`. The order of the parts is given on completion.',
        consumes: ['multipart/form-data'],
        params: UploadId,
        body: Type.Ref('AddUploadPartRequest'),
        response: {
          200: json('The part.', Type.Ref('UploadPart'), examplePart),
          ...errorResponses(404, 413, 503),
        },
      },
    },
    (request, reply) => addPart(deps, request, reply),
  );

  app.post<{ Params: UploadId; Body: CompleteUploadBody }>(
    '/v1/uploads/:upload_id/complete',
    {
      config: { answersOnce: true },
      schema: {
        operationId: 'completeUpload',
        tags,
        summary: 'Complete an upload',
        description:
          'Joins the parts in the given order into a file. Together they must have the announced size.',
        params: UploadId,
        body: Type.Ref('CompleteUploadRequest'),
        response: {
          200: json('The upload, with its file.', Type.Ref('Upload'), exampleCompletedUpload),
          ...errorResponses(404, 503),
        },
      },
    },
    (request, reply) =>
      answerOnce<UploadAnswer>(deps, request, reply, request.body, commit =>
        completeUpload(deps, request, commit),
      ),
  );

  app.post<{ Params: UploadId }>(
    '/v1/uploads/:upload_id/cancel',
    {
      schema: {
        operationId: 'cancelUpload',
        tags,
        summary: 'Cancel an upload',
        description: 'Deletes the parts; no more can be added.',
        params: UploadId,
        response: {
          200: json('The upload.', Type.Ref('Upload'), { ...exampleUpload, status: 'cancelled' }),
          ...errorResponses(404),
        },
      },
    },
    async request => uploadToWire(await cancelUpload(deps, request)),
  );
}

function createUpload(
  db: Queryable,
  { body, caller }: FastifyRequest<{ Body: CreateUploadBody }>,
): Promise<store.Upload> {
  return store.insertUpload(db, {
    projectId: caller.projectId,
    filename: body.filename,
    purpose: body.purpose,
    bytes: body.bytes,
    mimeType: body.mime_type,
    expiresAfterSeconds: body.expires_after?.seconds ?? null,
    lifetimeSeconds: uploadLimits.lifetimeSeconds,
  });
}

type UploadAnswer = ReturnType<typeof uploadToWire>;
type PartAnswer = ReturnType<typeof partToWire>;
type UploadRequest = FastifyRequest<{ Params: UploadId }>;

/** The upload in the request's path; throws unless it is pending. */
async function findPending(db: Queryable, request: UploadRequest): Promise<store.Upload> {
  const upload = await findUpload(db, request);
  if (upload.status !== 'pending') throw notPending(upload);
  return upload;
}

async function findUpload(db: Queryable, { params, caller }: UploadRequest): Promise<store.Upload> {
  const upload = await store.findUpload(db, caller.projectId, params.upload_id);
  if (upload) return upload;
  throw new ApiError('not_found', `No such Upload object: ${params.upload_id}`, { param: 'upload_id' });
}

function notPending({ id, status }: store.Upload): ApiError {
  return new ApiError('invalid_upload_state', `Upload ${id} is ${status}; it must be pending.`);
}

// ---- parts

/** Allows for parts that are sent twice because a response was lost. */
const mostBytes = ({ bytes }: store.Upload) => 2 * bytes + uploadLimits.partBytes;

async function addPart(deps: Deps, request: UploadRequest, reply: FastifyReply): Promise<PartAnswer> {
  // with an Idempotency-Key it may repeat a part from before the upload ended, which its bytes will tell
  const mayBeKnown = request.headers['idempotency-key'] !== undefined;
  const upload = await (mayBeKnown ? findUpload : findPending)(deps.pool, request);
  const id = store.newPartId();
  const { stored } = await receiveFormFile(request, deps, {
    field: 'data',
    key: store.partBlobKey(upload.id, id),
    limitBytes: uploadLimits.partBytes,
    check: refuseFields,
  });
  const part = { id, uploadId: upload.id, bytes: stored.sizeBytes, mostBytes: mostBytes(upload) };
  const make = (commit: Commit<PartAnswer>) =>
    commit(async tx => {
      const added = await store.insertPart(tx, part);
      return added ? partToWire(added) : refusePart(tx, request);
    });
  return keepIfNamed(
    deps,
    stored.key,
    () => answerOnce(deps, request, reply, { sha256: stored.sha256 }, make),
    answer => answer.id === id,
  );
}

async function refusePart(db: Queryable, request: UploadRequest): Promise<never> {
  const { bytes } = await findPending(db, request);
  throw new ApiError(
    'invalid_value',
    `The parts of this upload have more than twice the ${bytes} bytes that were announced.`,
    { param: 'data' },
  );
}

function refuseFields(fields: Record<string, string>): void {
  const name = Object.keys(fields)[0];
  if (name !== undefined) throw unknownField(name);
}

// ---- complete

type CompleteRequest = FastifyRequest<{ Params: UploadId; Body: CompleteUploadBody }>;

async function completeUpload(
  deps: Deps,
  request: CompleteRequest,
  commit: Commit<UploadAnswer>,
): Promise<UploadAnswer> {
  const upload = await findPending(deps.pool, request);
  const parts = await findAllParts(deps, upload, request.body.part_ids);
  const id = newFileId();
  const key = fileBlobKey(id);
  const { projectId, purpose, filename, expiresAfterSeconds } = upload;
  const answer = await keepIfNamed(deps, key, async () => {
    const { stored, md5 } = await joinParts(deps, upload, parts, key);
    checkMd5(md5, request.body.md5);
    return commit(async tx => {
      const ended = await store.endUpload(tx, upload.id, { status: 'completed', fileId: id });
      if (!ended) throw notPending(await findUpload(tx, request));
      const file = { id, projectId, purpose, filename, stored, expiresAfterSeconds };
      return uploadToWire(ended, await nameBytes(tx, file));
    });
  });
  await removePartsNow(deps, upload.id);
  return answer;
}

async function findAllParts(deps: Deps, upload: store.Upload, ids: string[]): Promise<store.UploadPart[]> {
  const parts = await store.findParts(deps.pool, upload.id, ids);
  const found = new Set(parts.map(part => part.id));
  const unknown = ids.find(id => !found.has(id));
  if (unknown !== undefined) throw wrongParts(`Upload ${upload.id} has no part '${unknown}'.`);
  const bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
  if (bytes === upload.bytes) return parts;
  throw wrongParts(`The parts have ${bytes} bytes together; ${upload.bytes} were announced.`);
}

function wrongParts(message: string): ApiError {
  return new ApiError('invalid_value', message, { param: 'part_ids' });
}

async function joinParts(
  deps: Deps,
  upload: store.Upload,
  parts: store.UploadPart[],
  key: string,
): Promise<{ stored: BlobInfo; md5: string }> {
  const hash = createHash('md5');
  try {
    const bytes = Readable.from(bytesOf(deps.blobs, parts, hash), { objectMode: false });
    const stored = await deps.blobs.put(key, bytes, { limitBytes: upload.bytes });
    return { stored, md5: hash.digest('hex') };
  } catch (cause) {
    if (cause instanceof BlobNotFound)
      throw new ApiError('invalid_upload_state', `Upload ${upload.id} has ended meanwhile.`, { cause });
    throw new ApiError('storage_unavailable', 'The file could not be stored; try again.', { cause });
  }
}

/** Concatenates the parts. */
async function* bytesOf(blobs: Blobs, parts: store.UploadPart[], hash: Hash): AsyncGenerator<Uint8Array> {
  for (const part of parts) {
    for await (const chunk of await blobs.get(store.partBlobKey(part.uploadId, part.id))) {
      hash.update(chunk);
      yield chunk;
    }
  }
}

function checkMd5(found: string, expected: string | undefined): void {
  if (expected === undefined || expected.toLowerCase() === found) return;
  throw new ApiError('invalid_value', `The parts' md5 is ${found}, not '${expected}'.`, { param: 'md5' });
}

// ---- cancel

async function cancelUpload(deps: Deps, request: UploadRequest): Promise<store.Upload> {
  const upload = await findPending(deps.pool, request);
  const cancelled = await store.endUpload(deps.pool, upload.id, { status: 'cancelled' });
  if (!cancelled) throw notPending(await findUpload(deps.pool, request));
  await removePartsNow(deps, upload.id);
  return cancelled;
}

/** Failures are left to the workers' clean-up. */
async function removePartsNow(deps: Deps, uploadId: string): Promise<void> {
  await removeParts(deps.blobs, uploadId).catch(error => {
    deps.log.warn({ error, upload: uploadId }, 'the parts of an upload stay until the next sweep');
  });
}
