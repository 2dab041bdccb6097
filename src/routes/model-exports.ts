// GET /v1/models/{model}/export: a model as one file. Asking makes it, asking again says how far it is; the work is the worker's.
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { ExportQuery, exampleExport, exportToWire } from '../schemas/model-exports.ts';
import { ModelId } from '../schemas/models.ts';
import { inTransaction } from '../store/database.ts';
import { askForExport } from '../store/model-exports.ts';
import { findModel } from '../store/models.ts';
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
          "The first request begins the export, later ones say how far it is. Once it has `succeeded`, `file` is the id of a file that holds it. A worker makes it, reads it back, and holds the log-probabilities of what it read against the served model's.",
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
      if (!(await findModel(deps.pool, projectId, model))) throw await unusableModel(deps, projectId, model);
      const asked = await inTransaction(deps.pool, async tx => {
        const asked = await askForExport(tx, { projectId, model, format }, again);
        if (asked.begun) await deps.queue.enqueueExport(asked.export.id, { client: tx });
        return asked;
      });
      return exportToWire(asked.export);
    },
  );
}
