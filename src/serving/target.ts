// Looks up a model's files by name in the database, for requests and workers.
import { createHash } from 'node:crypto';
import type { Queryable } from '../store/database.ts';
import { findModel, type ModelRow, readModel } from '../store/models.ts';
import type { TargetModel } from './client.ts';

export interface Target {
  model: TargetModel;
  /** Changes with the model's files. */
  fingerprint: string;
}

/** Null if the project has no model with this name. */
export async function readTarget(db: Queryable, projectId: string, id: string): Promise<Target | null> {
  const found = await findModel(db, projectId, id);
  if (!found) return null;
  const base = found.kind === 'adapter' ? await readBase(db, found) : found;
  const adapterFiles = found.kind === 'adapter' ? found.files : null;
  const hash = createHash('sha256');
  for (const { path, sha256 } of [...base.files, ...(adapterFiles ?? [])]) hash.update(`${path} ${sha256}\n`);
  return {
    model: { id, files: base.files, adapterFiles },
    fingerprint: `fp_${hash.digest('hex').slice(0, 10)}`,
  };
}

async function readBase(db: Queryable, adapter: ModelRow): Promise<ModelRow> {
  const base = adapter.baseModel && (await readModel(db, adapter.baseModel));
  if (!base) throw new Error(`model ${adapter.id} has lost its base model ${adapter.baseModel}`);
  return base;
}
