// Under whose limit a model falls: a fine-tuned one under that of its base, as at OpenAI.

/** The base in `ft:{base}:{organization}:{suffix}:{id}`; null for a name that is not of a fine-tuned model. */
export const baseInName = (model: string): string | null => /^ft:([^:]+):/.exec(model)?.[1] ?? null;

export const limitedModel = (model: string): string => baseInName(model) ?? model;
