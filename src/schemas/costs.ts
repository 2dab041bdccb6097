// API schemas of costs.
import { type Static, Type } from 'typebox';
import { Choice } from './choice.ts';
import { TimeQuery, texts, type Width } from './time-buckets.ts';

const nullableString = Type.Union([Type.String(), Type.Null()]);

export const CostsResult = Type.Object(
  {
    object: Type.Literal('organization.costs.result'),
    amount: Type.Object({
      value: Type.Number(),
      currency: Type.String({ description: '`ANNEAL_CURRENCY`.' }),
    }),
    line_item: nullableString,
    project_id: nullableString,
    api_key_id: nullableString,
    user_id: Type.Union([Type.String(), Type.Null()], { description: 'Null: keys belong to no user.' }),
    quantity: Type.Union([Type.Number(), Type.Null()]),
    quantity_unit: Type.Union([Type.Literal('tokens'), Type.Null()]),
  },
  { $id: 'CostsResult', description: 'Cost at the current prices.' },
);

const groupNames = ['project_id', 'api_key_id', 'line_item', 'user_id', 'api_source'] as const;

export const CostsQuery = Type.Object({
  ...TimeQuery.properties,
  bucket_width: Type.Optional(Choice(['1d'], { default: '1d', description: 'Width of a bucket.' })),
  line_items: texts('Only these line items.'),
  group_by: Type.Optional(Type.Array(Choice(groupNames), { description: 'Fields to group by.' })),
});
export type CostsQuery = Static<typeof CostsQuery>;

/** OpenAI's. */
export const costWidth: Width = { seconds: 86_400, usual: 7, most: 180 };

export const exampleCosts = {
  object: 'page',
  data: [
    {
      object: 'bucket',
      start_time: 1_779_926_400,
      end_time: 1_780_012_800,
      results: [
        {
          object: 'organization.costs.result',
          amount: { value: 0.06, currency: 'usd' },
          line_item: 'anneal-tiny, training_tokens',
          project_id: 'proj_Abc123Abc123Abc123Abc123',
          api_key_id: null,
          user_id: null,
          quantity: 20_000,
          quantity_unit: 'tokens',
        },
      ],
    },
  ],
  has_more: false,
  next_page: null,
};
