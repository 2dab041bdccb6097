// API schemas of projects.
import { type Static, Type } from 'typebox';
import type { Project as Row } from '../store/projects.ts';
import { Choice } from './choice.ts';
import { After, Limit, ListOf, unixSeconds, type WithDefaults } from './lists.ts';

export const Project = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('organization.project'),
    name: Type.String(),
    created_at: Type.Integer(),
    archived_at: Type.Union([Type.Integer(), Type.Null()]),
    status: Choice(['active', 'archived']),
  },
  { $id: 'Project', description: 'Owner of files, jobs and models.' },
);

/** Always null; typed as a nullable string, since many client generators do not support a null type alone. */
const unchosen = Type.Optional(
  Type.Union([Type.String({ maxLength: 0 }), Type.Null()], {
    description: 'Always null: data stays on this server.',
  }),
);

/** OpenAI's field for data residency, which does not apply here. */
const unserved = { geography: unchosen, external_key_id: unchosen };

const name = Type.String({ minLength: 1, maxLength: 200, description: 'Display name; need not be unique.' });

export const CreateProjectRequest = Type.Object(
  { name, ...unserved, residency: unchosen },
  { $id: 'CreateProjectRequest', additionalProperties: false, examples: [{ name: 'Support' }] },
);
export type CreateProjectBody = Static<typeof CreateProjectRequest>;

export const ModifyProjectRequest = Type.Object(
  { name: Type.Optional(Type.Union([name, Type.Null()])), ...unserved },
  { $id: 'ModifyProjectRequest', additionalProperties: false, examples: [{ name: 'Customer support' }] },
);
export type ModifyProjectBody = Static<typeof ModifyProjectRequest>;

export const ListProjectsQuery = Type.Object({
  after: After,
  limit: Limit(20, 100),
  include_archived: Type.Optional(
    Type.Boolean({ default: false, description: 'Include archived projects.' }),
  ),
});
export type ListProjectsQuery = WithDefaults<Static<typeof ListProjectsQuery>, 'limit' | 'include_archived'>;

export const ProjectListResponse = ListOf(
  'ProjectListResponse',
  Type.Ref('Project'),
  'A page of projects, oldest first.',
);

export const ProjectId = Type.Object({
  project_id: Type.String({ description: 'Id of a project.', examples: ['proj_default'] }),
});
export type ProjectId = Static<typeof ProjectId>;

export function projectToWire(project: Row) {
  return {
    id: project.id,
    object: 'organization.project' as const,
    name: project.name,
    created_at: unixSeconds(project.createdAt),
    archived_at: project.archivedAt && unixSeconds(project.archivedAt),
    status: project.archivedAt ? ('archived' as const) : ('active' as const),
  };
}

export const exampleProject = {
  id: 'proj_Abc123Abc123Abc123Abc123',
  object: 'organization.project',
  name: 'Support',
  created_at: 1_780_000_000,
  archived_at: null,
  status: 'active',
};
