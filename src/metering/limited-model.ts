// The model whose rate limits apply: for a fine-tuned model its base, as at OpenAI.

/** The base in `ft:{base}:{organization}:{suffix}:{id}`; null for other names. */
export const baseInName = (model: string): string | null => /^ft:([^:]+):/.exec(model)?.[1] ?? null;

export const limitedModel = (model: string): string => baseInName(model) ?? model;
