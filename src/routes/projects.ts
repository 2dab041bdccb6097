// /v1/organization/projects: create, list, retrieve, rename, archive.
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { exampleList, toWireList } from '../schemas/lists.ts';
import {
  type CreateProjectBody,
  exampleProject,
  ListProjectsQuery,
  type ModifyProjectBody,
  ProjectId,
  projectToWire,
} from '../schemas/projects.ts';
import { appendAuditLog } from '../store/audit-logs.ts';
import { inTransaction } from '../store/database.ts';
import * as store from '../store/projects.ts';
import { actorOf } from './authentication.ts';
import { administration } from './openapi.ts';

export function projectRoutes(app: FastifyInstance, deps: Deps): void {
  const answer = { 200: json('The project.', Type.Ref('Project'), exampleProject) };

  app.post<{ Body: CreateProjectBody }>(
    '/v1/organization/projects',
    {
      schema: {
        ...administration,
        operationId: 'createProject',
        summary: 'Create a project',
        description: 'The new project is empty; create a service account in it to get a key.',
        body: Type.Ref('CreateProjectRequest'),
        response: { ...answer, ...errorResponses() },
      },
    },
    async request => {
      const { name } = request.body;
      return inTransaction(deps.pool, async tx => {
        const project = await store.insertProject(tx, { name });
        await appendAuditLog(tx, {
          type: 'project.created',
          actor: actorOf(request),
          projectId: project.id,
          resourceId: project.id,
          details: { data: { name, title: name } },
        });
        return projectToWire(project);
      });
    },
  );

  app.get<{ Querystring: ListProjectsQuery }>(
    '/v1/organization/projects',
    {
      schema: {
        ...administration,
        operationId: 'listProjects',
        summary: 'List projects',
        description: 'Oldest first.',
        querystring: ListProjectsQuery,
        response: {
          200: json('A page of projects.', Type.Ref('ProjectListResponse'), exampleList(exampleProject)),
          ...errorResponses(),
        },
      },
    },
    async request => {
      const { include_archived: includeArchived, ...page } = request.query;
      return toWireList(await store.listProjects(deps.pool, { ...page, includeArchived }), projectToWire);
    },
  );

  app.get<{ Params: ProjectId }>(
    '/v1/organization/projects/:project_id',
    {
      schema: {
        ...administration,
        operationId: 'retrieveProject',
        summary: 'Retrieve a project',
        description: 'Archived projects can be retrieved, too.',
        params: ProjectId,
        response: { ...answer, ...errorResponses(404) },
      },
    },
    async request => projectToWire(await findProject(deps, request.params.project_id)),
  );

  app.post<{ Params: ProjectId; Body: ModifyProjectBody }>(
    '/v1/organization/projects/:project_id',
    {
      schema: {
        ...administration,
        operationId: 'modifyProject',
        summary: 'Rename a project',
        description: 'The id does not change.',
        params: ProjectId,
        body: Type.Ref('ModifyProjectRequest'),
        response: { ...answer, ...errorResponses(404) },
      },
    },
    async request => {
      const { project_id: id } = request.params;
      const before = await findActiveProject(deps, id);
      const name = request.body.name ?? before.name;
      return inTransaction(deps.pool, async tx => {
        const project = (await store.renameProject(tx, id, name)) ?? archived(before);
        await appendAuditLog(tx, {
          type: 'project.updated',
          actor: actorOf(request),
          projectId: id,
          resourceId: id,
          details: { changes_requested: { title: name } },
        });
        return projectToWire(project);
      });
    },
  );

  app.post<{ Params: ProjectId }>(
    '/v1/organization/projects/:project_id/archive',
    {
      schema: {
        ...administration,
        operationId: 'archiveProject',
        summary: 'Archive a project',
        description:
          'Cannot be undone. Its keys stop working at once; nothing is deleted, and running jobs continue.',
        params: ProjectId,
        response: { ...answer, ...errorResponses(404) },
      },
    },
    async request => {
      const before = await findActiveProject(deps, request.params.project_id);
      const { id } = before;
      if (id === store.DEFAULT_PROJECT_ID)
        throw new ApiError('invalid_value', 'The default project cannot be archived.', {
          param: 'project_id',
        });
      return inTransaction(deps.pool, async tx => {
        const project = (await store.archiveProject(tx, id)) ?? archived(before);
        await appendAuditLog(tx, {
          type: 'project.archived',
          actor: actorOf(request),
          projectId: id,
          resourceId: id,
        });
        return projectToWire(project);
      });
    },
  );
}

/** Throws a 404 when the project does not exist. */
export async function findProject(deps: Pick<Deps, 'pool'>, id: string): Promise<store.Project> {
  const project = await store.findProject(deps.pool, id);
  if (project) return project;
  throw new ApiError('not_found', `No such project: ${id}`, { param: 'project_id' });
}

/** Throws when the project does not exist or is archived. */
export async function findActiveProject(deps: Pick<Deps, 'pool'>, id: string): Promise<store.Project> {
  const project = await findProject(deps, id);
  return project.archivedAt ? archived(project) : project;
}

function archived({ id }: store.Project): never {
  throw new ApiError('invalid_value', `Project ${id} is archived; nothing in it can be changed.`, {
    param: 'project_id',
  });
}
