// Prices of tokens by model, from the configuration, and the line items of costs.

import type { TrainingSum, UsageSum } from '../store/usage.ts';
import { baseInName } from './limited-model.ts';

/** Per million tokens. */
export interface ModelPrices {
  input?: number;
  /** Defaults to `input`. */
  cached_input?: number;
  output?: number;
  training?: number;
}

/** By model name; `*` applies to all others. */
export type Prices = Readonly<Record<string, ModelPrices>>;

export const priceNames = ['input', 'cached_input', 'output', 'training'] as const;

const PER = 1_000_000;

export interface LineItem {
  /** `{model}, {tokens}`, as OpenAI names them. */
  name: string;
  tokens: number;
  cost: number;
}

/** For a fine-tuned model: its own prices, else those of all models tuned from its base (`ft:{base}`), else those of the base. */
export function pricesOf(prices: Prices, model: string): ModelPrices {
  const base = baseInName(model);
  const names = base === null ? [model] : [model, `ft:${base}`, base];
  return prices[names.find(name => Object.hasOwn(prices, name)) ?? '*'] ?? {};
}

export function usageItems(prices: Prices, sum: UsageSum & { model: string }): LineItem[] {
  const { model } = sum;
  const { input = 0, cached_input = input, output = 0 } = pricesOf(prices, model);
  return [
    item(model, 'input_tokens', sum.inputTokens - sum.cachedTokens, input),
    item(model, 'cached_input_tokens', sum.cachedTokens, cached_input),
    item(model, 'output_tokens', sum.outputTokens, output),
  ].filter(({ tokens }) => tokens > 0);
}

export function trainingItem(
  prices: Prices,
  { model, trainedTokens }: Pick<TrainingSum, 'trainedTokens'> & { model: string },
): LineItem {
  return item(model, 'training_tokens', trainedTokens, pricesOf(prices, model).training ?? 0);
}

function item(model: string, kind: string, tokens: number, price: number): LineItem {
  return { name: `${model}, ${kind}`, tokens, cost: (tokens * price) / PER };
}
