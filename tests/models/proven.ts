// The golden models that every invariant is tested with: one for each architecture, and for each family that an architecture's file
// computes differently. What transformers computes with all others is golden.test.ts'.

export const PROVEN = [
  'llama3',
  'mistral',
  'qwen2',
  'qwen3',
  'gpt2',
  'gpt-neox',
  'falcon-7b',
  'falcon-40b',
  'mixtral',
  'gemma2',
  'gemma3',
  'phi3',
  'cohere',
  'bert',
  'roberta',
  'distilbert',
  'modernbert',
  't5',
  't5-v1.1',
  'bart',
  'marian',
] as const;
