// GET /v1/models/{model}/export: a model as one file. The first request starts the export, later ones return its status. Workers execute
// exports (queue/export-model.ts).
import { text } from 'node:stream/consumers';
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Blobs } from '../blobs/blobs.ts';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { EXPORT_FORMATS, type ReadText, refusalOf } from '../exporting/formats.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { ExportQuery, exampleExport, exportToWire } from '../schemas/model-exports.ts';
import { ModelId } from '../schemas/models.ts';
import type { TargetModel } from '../serving/client.ts';
import { readTarget } from '../serving/target.ts';
import { inTransaction } from '../store/database.ts';
import { askForExport, type ExportKey, findExport, type ModelExport } from '../store/model-exports.ts';
import type { StoredFile } from '../store/models.ts';
import { unusableModel } from './models.ts';

export function modelExportRoutes(app: FastifyInstance, deps: Deps): void {
  app.get<{ Params: ModelId; Querystring: ExportQuery }>(
    '/v1/models/:model/export',
    {
      schema: {
        operationId: 'exportModel',
        tags: ['Models'],
        summary: 'Export a model',
        description:
          'The first request starts the export, later ones report its status. Once it has `succeeded`, `file` is the id of the file. A worker writes the export, reads it back and compares it with the served model. A format that the model cannot have is a 400 that names those it can.',
        params: ModelId,
        querystring: ExportQuery,
        response: {
          200: json('The export.', Type.Ref('ModelExport'), exampleExport),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { projectId } = request.caller;
      const { model } = request.params;
      const { format, again } = request.query;
      const target = await readTarget(deps.pool, projectId, model);
      if (!target) throw await unusableModel(deps, projectId, model);
      const key = { projectId, model, format };
      if (again || !(await findExport(deps.pool, key))) await requireFormat(deps.blobs, target.model, format);
      return exportToWire(await begin(deps, key, again));
    },
  );
}

const begin = ({ pool, queue }: Deps, key: ExportKey, again: boolean): Promise<ModelExport> =>
  inTransaction(pool, async tx => {
    const asked = await askForExport(tx, key, again);
    if (asked.begun) await queue.enqueueExport(asked.export.id, { client: tx });
    return asked.export;
  });

async function requireFormat(
  blobs: Blobs,
  { id, files, adapterFiles }: TargetModel,
  format: ModelExport['format'],
): Promise<void> {
  const read = { model: readIn(blobs, files), adapter: adapterFiles && readIn(blobs, adapterFiles) };
  const reason = await refusalOf(format, read);
  if (reason === null) return;
  const others = EXPORT_FORMATS.filter(other => other !== format);
  const refusals = await Promise.all(others.map(other => refusalOf(other, read)));
  const possible = others.filter((_, i) => refusals[i] === null);
  const message = `Invalid value for 'format': ${id} cannot be exported as ${format}: ${reason}. Its formats are: ${possible.join(', ')}.`;
  throw new ApiError('unsupported_value', message, { param: 'format' });
}

const readIn =
  (blobs: Blobs, files: readonly StoredFile[]): ReadText =>
  async name => {
    const file = files.find(({ path }) => path === name);
    return file ? text(await blobs.get(file.key)) : null;
  };
