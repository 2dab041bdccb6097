// The model that a request or a worker wants to ask, with everything that answering needs: its rows, found by name.
import { createHash } from 'node:crypto';
import type { Queryable } from '../store/database.ts';
import { findModel, type ModelRow, readModel } from '../store/models.ts';
import type { TargetModel } from './client.ts';

export interface Target {
  model: TargetModel;
  /** Changes with the files that answer. */
  fingerprint: string;
}

/** Null when the project has no model of that name. */
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
