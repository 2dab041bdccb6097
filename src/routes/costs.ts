// GET /v1/organization/costs: recorded usage times the currently configured prices.
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { type LineItem, trainingItem, usageItems } from '../metering/prices.ts';
import { CostsQuery, costWidth, exampleCosts } from '../schemas/costs.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { type Buckets, readBuckets, toWireBuckets } from '../schemas/time-buckets.ts';
import { sumTraining, sumUsage } from '../store/usage.ts';
import { administration } from './openapi.ts';

export function costRoutes(app: FastifyInstance, deps: Deps): void {
  app.get<{ Querystring: CostsQuery }>(
    '/v1/organization/costs',
    {
      schema: {
        ...administration,
        operationId: 'getCosts',
        summary: 'Costs',
        description: 'Costs of input, output and trained tokens per day, by the prices in `ANNEAL_PRICES`.',
        querystring: CostsQuery,
        response: {
          200: json('A page of buckets.', Type.Ref('UsageResponse'), exampleCosts),
          ...errorResponses(),
        },
      },
    },
    async ({ query }) => {
      const buckets = readBuckets(query, costWidth);
      const costs = await readCosts(deps, buckets, query);
      const wanted = costs.filter(({ name }) => query.line_items?.includes(name) ?? true);
      return toWireBuckets(buckets, sumCosts(wanted, query, deps.config.currency));
    },
  );
}

interface Cost extends LineItem {
  start: number;
  projectId: string | null;
  apiKeyId: string | null;
}

/** One cost per day, project, key and line item. */
async function readCosts({ pool, config }: Deps, buckets: Buckets, query: CostsQuery): Promise<Cost[]> {
  const { prices } = config;
  const filter = { ...buckets.range, projectIds: query.project_ids, apiKeyIds: query.api_key_ids };
  const requests = await sumUsage(pool, null, filter, ['projectId', 'apiKeyId', 'model']);
  const trainings = await sumTraining(pool, filter, ['projectId', 'apiKeyId', 'model']);
  // `model` is set, because the sums are grouped by it
  return [
    ...requests.flatMap(sum =>
      usageItems(prices, { ...sum, model: sum.model! }).map(item => costOf(sum, item)),
    ),
    ...trainings.map(sum => costOf(sum, trainingItem(prices, { ...sum, model: sum.model! }))),
  ];
}

const costOf = ({ start, projectId, apiKeyId }: Omit<Cost, keyof LineItem>, item: LineItem): Cost => ({
  start,
  projectId,
  apiKeyId,
  ...item,
});

function sumCosts(costs: readonly Cost[], { group_by = [] }: CostsQuery, currency: string) {
  const labelsOf = (cost: Cost) => ({
    line_item: group_by.includes('line_item') ? cost.name : null,
    project_id: group_by.includes('project_id') ? cost.projectId : null,
    api_key_id: group_by.includes('api_key_id') ? cost.apiKeyId : null,
    user_id: null,
  });
  const byGroup = Map.groupBy(costs, cost => JSON.stringify([cost.start, labelsOf(cost)]));
  return [...byGroup.values()].map(group => {
    const labels = labelsOf(group[0]!);
    const sum = (count: 'cost' | 'tokens') => group.reduce((total, cost) => total + cost[count], 0);
    const quantity = labels.line_item === null ? null : sum('tokens');
    const result = {
      object: 'organization.costs.result' as const,
      amount: { value: sum('cost'), currency },
      ...labels,
      quantity,
      quantity_unit: quantity === null ? null : ('tokens' as const),
    };
    return { start: group[0]!.start, result };
  });
}
