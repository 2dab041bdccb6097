// API schemas of model exports, an extension in the style of OpenAI's objects.
import { type Static, Type } from 'typebox';
import { COMPARED, EXPORT_FORMATS } from '../exporting/formats.ts';
import type { ModelExport as ExportRow } from '../store/model-exports.ts';
import { Choice } from './choice.ts';
import { unixSeconds, type WithDefaults } from './lists.ts';

export const ExportQuery = Type.Object({
  format: Choice(EXPORT_FORMATS, {
    description:
      '`adapter`: a tar of the PEFT folder. `merged`: a tar of a Hugging Face folder with the adapter merged into its weights. `gguf`: one file for llama.cpp.',
  }),
  again: Type.Optional(
    Type.Boolean({ default: false, description: '`true`: repeat an export that has ended.' }),
  ),
});
export type ExportQuery = WithDefaults<Static<typeof ExportQuery>, 'again'>;

const nullable = <T extends ReturnType<typeof Type.String> | ReturnType<typeof Type.Integer>>(type: T) =>
  Type.Union([type, Type.Null()]);

export const ModelExport = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('model.export'),
    model: Type.String(),
    format: Choice(EXPORT_FORMATS),
    status: Choice(['queued', 'in_progress', 'succeeded', 'failed']),
    created_at: Type.Integer(),
    finished_at: nullable(Type.Integer()),
    file: Type.Union([Type.String(), Type.Null()], {
      description: 'Id of the file with the export, once it exists.',
    }),
    compared: Type.Union([Choice(COMPARED), Type.Null()], {
      description:
        'What was compared, over the same tokens: `logprobs` of generated text, `outputs` of a head (before softmax), or `vectors` (of length 1) of an encoder.',
    }),
    largest_difference: Type.Union([Type.Number(), Type.Null()], {
      description: 'Largest difference between the served model and the export read back.',
    }),
    error: Type.Union([Type.Object({ code: Type.String(), message: Type.String() }), Type.Null()]),
  },
  { $id: 'ModelExport', description: 'A model as one file.' },
);

export function exportToWire(row: ExportRow) {
  return {
    id: row.id,
    object: 'model.export' as const,
    model: row.model,
    format: row.format,
    status: row.status,
    created_at: unixSeconds(row.createdAt),
    finished_at: row.finishedAt && unixSeconds(row.finishedAt),
    file: row.fileId,
    compared: row.compared,
    largest_difference: row.largestDifference,
    error: row.error,
  };
}

export const exampleExport = {
  id: 'export_Abc123Abc123Abc123Abc123',
  object: 'model.export',
  model: 'ft:anneal-tiny:personal:tickets:Ab12Cd34',
  format: 'gguf',
  status: 'succeeded',
  created_at: 1_780_000_000,
  finished_at: 1_780_000_004,
  file: 'file-Abc123Abc123Abc123Abc123',
  compared: 'logprobs',
  largest_difference: 0.004,
  error: null,
};
