// /v1/organization/usage/{kind}: usage of inference and training, by time, project, key and model.
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { readBuckets, toWireBuckets } from '../schemas/time-buckets.ts';
import {
  completionsResult,
  exampleUsage,
  filterOf,
  fineTuningResult,
  groupsOf,
  inputResult,
  UsageQuery,
  usageWidths,
} from '../schemas/usage.ts';
import { sumTraining, sumUsage, type UsageFilter, type UsageGroup, type UsageKind } from '../store/usage.ts';
import { administration } from './openapi.ts';

interface Report {
  path: string;
  operationId: string;
  summary: string;
  description: string;
  /** One result per bucket and group. */
  read(
    deps: Deps,
    filter: UsageFilter,
    groups: UsageGroup[],
    query: UsageQuery,
  ): Promise<{ start: number; result: object }[]>;
}

export function usageRoutes(app: FastifyInstance, deps: Deps): void {
  for (const { path, operationId, summary, description, read } of reports) {
    app.get<{ Querystring: UsageQuery }>(
      `/v1/organization/usage/${path}`,
      {
        schema: {
          ...administration,
          operationId,
          summary,
          description,
          querystring: UsageQuery,
          response: {
            200: json('A page of buckets.', Type.Ref('UsageResponse'), exampleUsage),
            ...errorResponses(),
          },
        },
      },
      async ({ query }) => {
        const buckets = readBuckets(query, usageWidths[query.bucket_width ?? '1d']);
        const isNobodys = query.user_ids !== undefined; // keys belong to no user
        const filter = { ...buckets.range, ...filterOf(query) };
        const sums = isNobodys ? [] : await read(deps, filter, groupsOf(query), query);
        return toWireBuckets(buckets, sums);
      },
    );
  }
}

const inputs = ['embeddings', 'moderations', 'classifications'] as const;

const reports: Report[] = [
  {
    path: 'completions',
    operationId: 'getUsageCompletions',
    summary: 'Usage of completions',
    description: 'Tokens and requests of chat, completions and responses.',
    read: readRequests('completions', completionsResult),
  },
  ...inputs.map(kind => ({
    path: kind,
    operationId: `getUsage${kind[0]!.toUpperCase()}${kind.slice(1)}`,
    summary: `Usage of ${kind}`,
    description: `Tokens and requests of ${kind}.`,
    read: readRequests(kind, inputResult(kind)),
  })),
  {
    path: 'fine_tuning',
    operationId: 'getUsageFineTuning',
    summary: 'Usage of fine-tuning',
    description: 'Succeeded jobs and their trained tokens, at the time they ended.',
    async read({ pool }, filter, groups) {
      const sums = await sumTraining(pool, filter, groups);
      return sums.map(sum => ({ start: sum.start, result: fineTuningResult(sum) }));
    },
  },
];

function readRequests(
  kind: UsageKind,
  toResult: (sum: Awaited<ReturnType<typeof sumUsage>>[number], groupBy: UsageQuery['group_by']) => object,
): Report['read'] {
  return async ({ pool }, filter, groups, query) => {
    const sums = await sumUsage(pool, kind, filter, groups);
    return sums.map(sum => ({ start: sum.start, result: toResult(sum, query.group_by) }));
  };
}
