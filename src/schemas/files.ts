// API schemas of files.
import { type Static, Type } from 'typebox';
import type { File } from '../store/files.ts';
import { Choice } from './choice.ts';
import { After, Limit, ListOf, unixSeconds, type WithDefaults } from './lists.ts';

export const uploadPurposes = ['assistants', 'batch', 'fine-tune', 'vision', 'user_data', 'evals'] as const;
const purposes = [...uploadPurposes, 'assistants_output', 'batch_output', 'fine-tune-results'] as const;

/** Longer names could exceed header limits of clients on download: a character takes up to nine bytes there. */
export const LONGEST_FILENAME = 255;

export const expirySeconds = { minimum: 3600, maximum: 2_592_000 };

export const OpenAIFile = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('file'),
    bytes: Type.Integer({ description: 'Size.' }),
    created_at: Type.Integer({ description: 'Unix seconds.' }),
    expires_at: Type.Union([Type.Integer(), Type.Null()], { description: 'Unix seconds; null: never.' }),
    filename: Type.String(),
    purpose: Choice(purposes),
    status: Choice(['uploaded', 'processed', 'error'], { deprecated: true }),
    status_details: Type.Union([Type.String(), Type.Null()], { deprecated: true }),
  },
  { $id: 'OpenAIFile', description: 'An uploaded or generated file.' },
);

export const exampleUpload = { file: '{"messages": [...]}', purpose: 'fine-tune' };

export const CreateFileRequest = Type.Object(
  {
    file: Type.String({
      format: 'binary',
      description: 'The bytes, with a file name. `.jsonl` for `fine-tune` and `batch`.',
    }),
    purpose: Choice(uploadPurposes, { description: 'Description of the key.' }),
    'expires_after[anchor]': Type.Optional(Type.Literal('created_at')),
    'expires_after[seconds]': Type.Optional(
      Type.Integer({ ...expirySeconds, description: 'Seconds until it is deleted.' }),
    ),
  },
  { $id: 'CreateFileRequest', examples: [exampleUpload], description: 'Form fields, in any order.' },
);

export const ListFilesQuery = Type.Object({
  purpose: Type.Optional(Type.String({ description: 'Only files of this purpose.' })),
  limit: Limit(10_000, 10_000),
  order: Type.Optional(Choice(['asc', 'desc'], { default: 'desc', description: 'Order by creation time.' })),
  after: After,
});
export type ListFilesQuery = WithDefaults<Static<typeof ListFilesQuery>, 'limit' | 'order'>;

export const ListFilesResponse = ListOf('ListFilesResponse', Type.Ref('OpenAIFile'), 'A page of files.');

export const FileId = Type.Object({
  file_id: Type.String({ description: 'Id of the file.', examples: ['file-abc123'] }),
});
export type FileId = Static<typeof FileId>;

export const DeleteFileResponse = Type.Object(
  { id: Type.String(), object: Type.Literal('file'), deleted: Type.Boolean() },
  { $id: 'DeleteFileResponse', description: 'The deleted object.' },
);

export function fileToWire(file: File) {
  return {
    id: file.id,
    object: 'file' as const,
    bytes: file.bytes,
    created_at: unixSeconds(file.createdAt),
    expires_at: file.expiresAt && unixSeconds(file.expiresAt),
    filename: file.filename,
    purpose: file.purpose,
    status: file.status,
    status_details: file.statusDetails,
  };
}

export const exampleFile = {
  id: 'file-Abc123Abc123Abc123Abc123',
  object: 'file',
  bytes: 120_000,
  created_at: 1_780_000_000,
  expires_at: null,
  filename: 'train.jsonl',
  purpose: 'fine-tune',
  status: 'processed',
  status_details: null,
};
