// API schemas of project quotas, an extension of the OpenAI API.
import { type Static, Type } from 'typebox';
import type { Quotas, QuotaUse } from '../store/quotas.ts';

const nullable = (description: string) =>
  Type.Union([Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }), Type.Null()], { description });
const MOST_JOBS = 2 ** 31 - 1;

const quotas = {
  max_active_jobs: Type.Union([Type.Integer({ minimum: 0, maximum: MOST_JOBS }), Type.Null()], {
    description: 'Jobs that have not ended, including paused ones; null: unlimited.',
  }),
  max_stored_bytes: nullable('Bytes of files, unfinished uploads and models together; null: unlimited.'),
};

export const ProjectQuotas = Type.Object(
  {
    object: Type.Literal('organization.project.quotas'),
    project_id: Type.String(),
    ...quotas,
    active_jobs: Type.Integer({ description: 'Current use.' }),
    stored_bytes: Type.Integer({ description: 'Current use.' }),
  },
  { $id: 'ProjectQuotas', description: 'Quotas of a project, and how much of them it uses.' },
);

export const UpdateProjectQuotasRequest = Type.Partial(Type.Object(quotas), {
  $id: 'UpdateProjectQuotasRequest',
  additionalProperties: false,
  examples: [{ max_active_jobs: 2, max_stored_bytes: 50_000_000_000 }],
});
export type UpdateProjectQuotasBody = Static<typeof UpdateProjectQuotasRequest>;

export function quotasToWire(projectId: string, quotas: Quotas, use: QuotaUse) {
  return {
    object: 'organization.project.quotas' as const,
    project_id: projectId,
    max_active_jobs: quotas.maxActiveJobs,
    max_stored_bytes: quotas.maxStoredBytes,
    active_jobs: use.activeJobs,
    stored_bytes: use.storedBytes,
  };
}

export const exampleQuotas = {
  object: 'organization.project.quotas',
  project_id: 'proj_Abc123Abc123Abc123Abc123',
  max_active_jobs: 2,
  max_stored_bytes: null,
  active_jobs: 1,
  stored_bytes: 1_048_576,
};
