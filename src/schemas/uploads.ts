// API schemas of uploads and their parts.
import { type Static, Type } from 'typebox';
import type { File } from '../store/files.ts';
import type { UploadPart as UploadPartRow, Upload as UploadRow } from '../store/uploads.ts';
import { Choice } from './choice.ts';
import { exampleFile, expirySeconds, fileToWire, LONGEST_FILENAME, uploadPurposes } from './files.ts';
import { unixSeconds } from './lists.ts';

const MIB = 2 ** 20;
/** OpenAI's. */
export const uploadLimits = { bytes: 8192 * MIB, partBytes: 64 * MIB, lifetimeSeconds: 3600 };

export const exampleUploadRequest = {
  filename: 'train.jsonl',
  purpose: 'fine-tune',
  bytes: 2_147_483_648,
  mime_type: 'text/jsonl',
};

export const CreateUploadRequest = Type.Object(
  {
    filename: Type.String({
      minLength: 1,
      maxLength: LONGEST_FILENAME,
      description: '`.jsonl` for `fine-tune` and `batch`.',
    }),
    purpose: Choice(uploadPurposes, { description: 'Description of the key.' }),
    bytes: Type.Integer({
      minimum: 1,
      maximum: uploadLimits.bytes,
      description: 'Size of the whole file; at most 8 GB.',
    }),
    mime_type: Type.String({ description: 'Media type of the file. Not checked.' }),
    expires_after: Type.Optional(
      Type.Object(
        { anchor: Choice(['created_at']), seconds: Type.Integer(expirySeconds) },
        { additionalProperties: false, description: 'When the file is deleted; default: never.' },
      ),
    ),
  },
  {
    $id: 'CreateUploadRequest',
    examples: [exampleUploadRequest],
    additionalProperties: false,
    description: 'An upload to create.',
  },
);
export type CreateUploadBody = Static<typeof CreateUploadRequest>;

export const AddUploadPartRequest = Type.Object(
  { data: Type.String({ format: 'binary', description: 'The bytes; at most 64 MB.' }) },
  {
    $id: 'AddUploadPartRequest',
    examples: [{ data: '{"messages": [...]}' }],
    description: 'Fields of the form.',
  },
);

export const CompleteUploadRequest = Type.Object(
  {
    part_ids: Type.Array(Type.String(), {
      minItems: 1,
      description: 'Ids of the parts, in the order of the file.',
    }),
    md5: Type.Optional(Type.String({ description: 'Hexadecimal MD5 of the whole file; checked if given.' })),
  },
  {
    $id: 'CompleteUploadRequest',
    examples: [{ part_ids: ['part_Abc123Abc123Abc123Abc123', 'part_Def456Def456Def456Def456'] }],
    additionalProperties: false,
    description: 'The parts of the file.',
  },
);
export type CompleteUploadBody = Static<typeof CompleteUploadRequest>;

export const Upload = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('upload'),
    bytes: Type.Integer({ description: 'Size of the whole file.' }),
    created_at: Type.Integer({ description: 'Unix seconds.' }),
    expires_at: Type.Integer({ description: 'Unix seconds; the upload must be completed before.' }),
    filename: Type.String(),
    purpose: Choice(uploadPurposes),
    status: Choice(['pending', 'completed', 'cancelled', 'expired']),
    file: Type.Union([Type.Ref('OpenAIFile'), Type.Null()], {
      description: 'The file, once the upload is completed.',
    }),
  },
  { $id: 'Upload', description: 'A file uploaded in parts.' },
);

export const UploadPart = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('upload.part'),
    created_at: Type.Integer({ description: 'Unix seconds.' }),
    upload_id: Type.String(),
  },
  { $id: 'UploadPart', description: 'A part of an upload.' },
);

export const UploadId = Type.Object({
  upload_id: Type.String({ description: 'Id of the upload.', examples: ['upload_abc123'] }),
});
export type UploadId = Static<typeof UploadId>;

export function uploadToWire(upload: UploadRow, file: File | null = null) {
  return {
    id: upload.id,
    object: 'upload' as const,
    bytes: upload.bytes,
    created_at: unixSeconds(upload.createdAt),
    expires_at: unixSeconds(upload.expiresAt),
    filename: upload.filename,
    purpose: upload.purpose,
    status: upload.status,
    file: file && fileToWire(file),
  };
}

export function partToWire(part: UploadPartRow) {
  return {
    id: part.id,
    object: 'upload.part' as const,
    created_at: unixSeconds(part.createdAt),
    upload_id: part.uploadId,
  };
}

export const exampleUpload = {
  id: 'upload_Abc123Abc123Abc123Abc123',
  object: 'upload',
  bytes: 2_147_483_648,
  created_at: 1_780_000_000,
  expires_at: 1_780_003_600,
  filename: 'train.jsonl',
  purpose: 'fine-tune',
  status: 'pending',
  file: null,
};

export const exampleCompletedUpload = {
  ...exampleUpload,
  status: 'completed',
  file: { ...exampleFile, bytes: exampleUpload.bytes },
};

export const examplePart = {
  id: 'part_Abc123Abc123Abc123Abc123',
  object: 'upload.part',
  created_at: 1_780_000_000,
  upload_id: exampleUpload.id,
};
