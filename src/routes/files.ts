// /v1/files: upload, list, retrieve, download, delete. Bytes are streamed from the socket into the object store.
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { BlobNotFound } from '../blobs/blobs.ts';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import {
  exampleFile,
  expirySeconds,
  FileId,
  fileToWire,
  ListFilesQuery,
  LONGEST_FILENAME,
  uploadPurposes,
} from '../schemas/files.ts';
import { exampleList, toWireList } from '../schemas/lists.ts';
import * as store from '../store/files.ts';
import { missing, receiveFormFile, unknownField } from './form-file.ts';
import { answerOnce, type Commit } from './idempotency.ts';
import { checkExtension, type FileOfBytes, keepIfNamed, nameBytes } from './new-files.ts';
import { checkRoom, limitWithin } from './quotas.ts';
import { describedOnly } from './validation.ts';

const tags = ['Files'];

export function fileRoutes(app: FastifyInstance, deps: Deps): void {
  app.post(
    '/v1/files',
    {
      validatorCompiler: describedOnly,
      config: { answersOnce: true },
      schema: {
        operationId: 'createFile',
        tags,
        summary: 'Upload a file',
        description: 'A multipart form with fields in any order. Files for fine-tuning are JSONL in UTF-8.',
        consumes: ['multipart/form-data'],
        body: Type.Ref('CreateFileRequest'),
        response: {
          200: json('The file.', Type.Ref('OpenAIFile'), exampleFile),
          ...errorResponses(413, 429, 503),
        },
      },
    },
    async (request, reply) => {
      const file = await receiveFile(request, deps);
      const { id, stored, ...rest } = file;
      const content = { ...rest, sha256: stored.sha256 };
      const make = (commit: Commit<ReturnType<typeof fileToWire>>) =>
        commit(async tx => {
          await checkRoom(tx, file.projectId, stored.sizeBytes);
          return fileToWire(await nameBytes(tx, file));
        });
      return keepIfNamed(
        deps,
        stored.key,
        () => answerOnce(deps, request, reply, content, make),
        answer => answer.id === id,
      );
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
          ...errorResponses(),
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
        summary: 'Retrieve a file',
        description: 'Metadata of a file; its content is at `/content`.',
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
        description: 'The content of the file.',
        params: FileId,
        response: {
          200: {
            description: 'The content.',
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
        if (cause instanceof BlobNotFound) throw noSuchFile(file.id); // deleted meanwhile
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
        description: 'Deletes the file. Jobs created with it keep it.',
        params: FileId,
        response: {
          200: json('Deleted.', Type.Ref('DeleteFileResponse'), {
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

/** Second half of a deletion. A file in use, or a failure here, is left to the workers' clean-up. */
async function removeBytes(deps: Deps, file: store.File): Promise<void> {
  if (await store.isFileRead(deps.pool, file.id)) return;
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

async function receiveFile(request: FastifyRequest, deps: Deps): Promise<FileOfBytes> {
  const id = store.newFileId();
  const { projectId } = request.caller;
  const { fields, filename, stored } = await receiveFormFile(request, deps, {
    field: 'file',
    key: store.fileBlobKey(id),
    ...(await limitWithin(deps.pool, projectId, deps.config.fileLimitBytes)),
    check: checkFields,
  });
  const seconds = fields['expires_after[seconds]'];
  return {
    id,
    projectId,
    purpose: fields.purpose!,
    filename,
    stored,
    expiresAfterSeconds: seconds ? Number(seconds) : null,
  };
}

/** Checks the fields read so far; missing ones only once the form is complete (`whole`). */
function checkFields(fields: Record<string, string>, filename: string, whole: boolean): void {
  const { purpose, 'expires_after[anchor]': anchor, 'expires_after[seconds]': seconds, ...others } = fields;
  const unknown = Object.keys(others)[0];
  if (unknown !== undefined) throw unknownField(unknown);
  checkLength(filename);
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

function checkLength(filename: string): void {
  if (filename.length <= LONGEST_FILENAME) return;
  const message = `Invalid 'file': file name too long. Expected a name with maximum length ${LONGEST_FILENAME}, but got one with length ${filename.length} instead.`;
  throw new ApiError('string_above_max_length', message, { param: 'file' });
}

function checkPurpose(purpose: string, filename: string): void {
  if (!(uploadPurposes as readonly string[]).includes(purpose)) {
    const supported = uploadPurposes.map(one => `'${one}'`).join(', ');
    throw new ApiError('invalid_value', `Invalid value: '${purpose}'. Supported values are: ${supported}.`, {
      param: 'purpose',
    });
  }
  checkExtension(purpose, filename, 'file');
}

function checkExpiry(text: string): void {
  const { minimum, maximum } = expirySeconds;
  const seconds = Number(text);
  if (/^\d+$/.test(text) && seconds >= minimum && seconds <= maximum) return;
  const message = `Invalid 'expires_after.seconds': expected an integer from ${minimum} to ${maximum}, but got '${text}' instead.`;
  throw new ApiError('invalid_value', message, { param: 'expires_after.seconds' });
}
