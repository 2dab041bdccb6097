// The meaning of a head's outputs, in the fields of transformers' config.json: in that file for a whole model; beside
// an adapter, in a file of our own, because PEFT has none.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readJsonFile } from '../models/json-file.ts';

export const PROBLEMS = {
  single: 'single_label_classification',
  multiple: 'multi_label_classification',
  regression: 'regression',
} as const;

export type Problem = keyof typeof PROBLEMS;

export interface OutputMeaning {
  readonly problem: Problem;
  /** One label per output; for regression, the name of its only output. */
  readonly labels: readonly string[];
  /** What the head was trained on: plain texts, or conversations rendered by the chat template. */
  readonly reads: 'input' | 'messages';
}

/** Whether two heads have the same outputs. */
export const sameOutputs = (a: OutputMeaning, b: OutputMeaning): boolean =>
  a.problem === b.problem && JSON.stringify(a.labels) === JSON.stringify(b.labels);

/** As fields of config.json; `anneal_reads` is our own. */
export const meaningToConfig = ({ problem, labels, reads }: OutputMeaning): Record<string, unknown> => ({
  problem_type: PROBLEMS[problem],
  anneal_reads: reads,
  num_labels: labels.length,
  id2label: Object.fromEntries(labels.map((label, i) => [i, label])),
  label2id: Object.fromEntries(labels.map((label, i) => [label, i])),
});

/** Null for a config without labels. A single label without a problem type means regression, as in transformers. */
export function meaningOfConfig(config: Readonly<Record<string, unknown>>): OutputMeaning | null {
  const { id2label, problem_type: type } = config;
  if (typeof id2label !== 'object' || id2label === null) return null;
  const labels = Object.entries(id2label)
    .sort(([a], [b]) => Number(a) - Number(b))
    .map(([, label]) => String(label));
  const named = (Object.keys(PROBLEMS) as Problem[]).find(problem => PROBLEMS[problem] === type);
  return {
    problem: named ?? (labels.length === 1 ? 'regression' : 'single'),
    labels,
    reads: config.anneal_reads === 'messages' ? 'messages' : 'input',
  };
}

/** The file beside an adapter. */
export const MEANING_FILE = 'classifier_config.json';

export const writeMeaning = (directory: string, meaning: OutputMeaning): Promise<void> =>
  writeFile(join(directory, MEANING_FILE), `${JSON.stringify(meaningToConfig(meaning), null, 2)}\n`);

/** Reads an adapter's folder; null if its outputs are tokens. */
export async function readMeaning(directory: string): Promise<OutputMeaning | null> {
  const config = await readJsonFile(join(directory, MEANING_FILE));
  return config && meaningOfConfig(config);
}
