// Parses a multipart form with one file, whose bytes are streamed from the socket into the object store. The caller interprets the
// other fields.
import type { Readable } from 'node:stream';
import type { FastifyRequest } from 'fastify';
import { type BlobInfo, BlobTooLarge } from '../blobs/blobs.ts';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';

const MIB = 2 ** 20;
const DRAIN_TIMEOUT_MS = 30_000;
/** Errors of the form's parser on the file's stream; other errors there are from the store. */
const FORM_BROKE_OFF = /terminated early|Unexpected end of multipart/;

export interface FormFile {
  filename: string;
  stored: BlobInfo;
  fields: Record<string, string>;
}

export interface FormRules {
  /** Name of the field that holds the bytes. */
  field: string;
  /** Key of the object to store. */
  key: string;
  limitBytes: number;
  /** Error for a larger file; by default `file_too_large`. */
  tooLarge?(): ApiError;
  /** Checks the fields read so far; missing ones only once the form is complete (`whole`). Throws ApiError. */
  check(fields: Record<string, string>, filename: string, whole: boolean): void;
}

/** Reads the whole form. On any error, the stored object is deleted. */
export async function receiveFormFile(
  request: FastifyRequest,
  deps: Deps,
  rules: FormRules,
): Promise<FormFile> {
  if (!request.isMultipart()) {
    throw new ApiError(
      'unsupported_media_type',
      'Send the file as a form: Content-Type: multipart/form-data.',
    );
  }
  const form: Form = { fields: {}, file: null };
  try {
    refuseTooLarge(request, rules);
    await readParts(request, deps, rules, form);
    if (!form.file) throw missing(rules.field);
    rules.check(form.fields, form.file.filename, true);
    return { fields: form.fields, ...form.file };
  } catch (error) {
    if (form.file) await deps.blobs.delete(form.file.stored.key).catch(() => undefined);
    drain(request);
    throw error;
  }
}

interface Form {
  fields: Record<string, string>;
  file: Pick<FormFile, 'filename' | 'stored'> | null;
}

async function readParts(request: FastifyRequest, deps: Deps, rules: FormRules, form: Form): Promise<void> {
  try {
    for await (const part of request.parts()) {
      if (part.type === 'field') form.fields[part.fieldname] = String(part.value);
      else if (part.fieldname !== rules.field) throw unknownField(part.fieldname);
      else {
        const { filename, file } = part;
        rules.check({ ...form.fields }, filename, false);
        form.file = { filename, stored: await storeBytes(request, deps, rules, file) };
      }
    }
  } catch (cause) {
    const { statusCode, message } = cause as { statusCode?: number; message: string };
    if (cause instanceof ApiError || statusCode) throw cause;
    throw new ApiError('invalid_request', `The form cannot be read: ${message}`, { cause });
  }
}

/** Discards the rest of the request, for clients that read the response only after sending everything. */
function drain(request: FastifyRequest): void {
  const timer = setTimeout(() => request.raw.destroy(), DRAIN_TIMEOUT_MS);
  request.raw.once('close', () => clearTimeout(timer));
  request.raw.unpipe();
  request.raw.resume();
}

/** Rejects a request by its content-length before its body is read. */
function refuseTooLarge(request: FastifyRequest, rules: FormRules): void {
  const announced = Number(request.headers['content-length'] ?? 0);
  if (announced > rules.limitBytes + MIB) throw tooLarge(rules);
}

async function storeBytes(
  request: FastifyRequest,
  deps: Deps,
  rules: FormRules,
  bytes: Readable,
): Promise<BlobInfo> {
  const cut = new AbortController();
  const onClose = () => {
    if (!request.raw.complete) cut.abort(new Error('the client went away'));
  };
  request.raw.once('close', onClose);
  try {
    return await deps.blobs.put(rules.key, bytes, { limitBytes: rules.limitBytes, signal: cut.signal });
  } catch (cause) {
    if (cause instanceof BlobTooLarge) throw tooLarge(rules);
    if (cut.signal.aborted || FORM_BROKE_OFF.test((cause as Error).message)) throw cause;
    throw new ApiError('storage_unavailable', 'The file could not be stored; try again.', { cause });
  } finally {
    request.raw.off('close', onClose);
  }
}

function tooLarge({ field, limitBytes, ...rules }: FormRules): ApiError {
  if (rules.tooLarge) return rules.tooLarge();
  const what = field === 'file' ? 'file' : 'part';
  return new ApiError('file_too_large', `The ${what} is larger than the limit of ${limitBytes / MIB} MB.`, {
    param: field,
  });
}

export function missing(name: string): ApiError {
  return new ApiError('missing_required_parameter', `Missing required parameter: '${name}'.`, {
    param: name,
  });
}

export function unknownField(name: string): ApiError {
  return new ApiError('unknown_parameter', `Unknown parameter: '${name}'.`, { param: name });
}
