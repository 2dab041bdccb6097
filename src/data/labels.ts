// The labels of a classification file: which there are, how often, and what is wrong with them beyond a single line.
// What a line alone must be is line-rules.ts'.
import { createReadStream } from 'node:fs';
import { readLines } from './jsonl.ts';
import type { Finding } from './line-rules.ts';

/** More classes than this are not learnt from a file of lines. */
export const MOST_LABELS = 1000;
export const LONGEST_LABEL = 256;

/** What a job may ask of its labels. */
export interface LabelSettings {
  /** All labels there are, in the order of the classes; absent: those of the training file, sorted. */
  labels?: string[] | null;
  /** Factors on the loss of each class; absent: all 1. */
  class_weights?: 'balanced' | Record<string, number> | null;
}

export interface LabelSet {
  /** A line has any number of them (`labels`) instead of exactly one (`label`). */
  readonly multiple: boolean;
  /** Their places are the classes. */
  readonly labels: readonly string[];
  readonly lines: number;
  /** Lines that have it, by label. */
  readonly counts: ReadonlyMap<string, number>;
}

/** Of a parsed line; null when it says none in the right form. */
export function labelsOf(line: unknown): { multiple: boolean; labels: string[] } | null {
  const { label, labels } = (line ?? {}) as { label?: unknown; labels?: unknown };
  if (typeof label === 'string' && labels === undefined) return { multiple: false, labels: [label] };
  const isList = Array.isArray(labels) && labels.every(each => typeof each === 'string');
  return isList && label === undefined ? { multiple: true, labels } : null;
}

/** Gathers the labels of a file, line by line. The first line says whether a line may have several. */
function countLabels(given: readonly string[] | null | undefined) {
  const counts = new Map<string, number>();
  let multiple: boolean | null = null;
  let lines = 0;
  return {
    /** False for a line of the other kind, which is not counted. */
    add(found: NonNullable<ReturnType<typeof labelsOf>>): boolean {
      multiple ??= found.multiple;
      if (found.multiple !== multiple) return false;
      lines += 1;
      for (const label of found.labels) counts.set(label, (counts.get(label) ?? 0) + 1);
      return true;
    },
    close: (): LabelSet => ({
      multiple: multiple ?? false,
      labels: given ?? [...counts.keys()].sort(),
      lines,
      counts,
    }),
  };
}

/** Of a training file that validation has accepted, or will refuse: lines that have none are passed over. */
export async function readLabels(file: string, settings: LabelSettings): Promise<LabelSet> {
  const census = countLabels(settings.labels);
  for await (const line of readLines(createReadStream(file, { highWaterMark: 1 << 20 }))) {
    const found = 'problem' in line ? null : labelsOf(parseOrNull(line.text));
    if (found) census.add(found);
  }
  return census.close();
}

/** Null for what is no JSON. */
export function parseOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Checks a file's labels against each other and against what its job asks for. */
export interface LabelCheck {
  findings(line: unknown): Finding[];
  close(): { labels: LabelSet; problem: string | null };
}

/** `training`: the labels of the training file, for the file that a run is measured on; null for the training file itself. */
export function openLabelCheck(settings: LabelSettings, training: LabelSet | null): LabelCheck {
  const known = settings.labels ?? training?.labels;
  const allowed = known && new Set(known);
  const whose = settings.labels ? 'is not among the labels of the job' : 'is not in the training file';
  const census = countLabels(known);
  if (training) census.add({ multiple: training.multiple, labels: [] });
  return {
    findings(line) {
      const found = labelsOf(line);
      if (!found) return [];
      if (!census.add(found)) {
        const [has, begins] = found.multiple ? ['labels', 'label'] : ['label', 'labels'];
        const where = training ? 'the training file has' : 'the file begins with';
        return [{ path: has!, text: ` has '${has}', but ${where} '${begins}'` }];
      }
      const unknown = allowed ? found.labels.filter(label => !allowed.has(label)) : [];
      const path = found.multiple ? 'labels' : 'label';
      return unknown.map(label => ({
        path,
        text: ` has the label ${JSON.stringify(label)}, which ${whose}`,
      }));
    },
    close() {
      const labels = census.close();
      return { labels, problem: training ? null : problemOf(labels, settings) };
    },
  };
}

/** What keeps a set of labels from being learnt. */
function problemOf({ labels, multiple }: LabelSet, { class_weights: weights }: LabelSettings): string | null {
  const least = multiple ? 1 : 2;
  if (labels.length < least) {
    const found = labels.length === 0 ? 'no label' : `only the label ${JSON.stringify(labels[0])}`;
    return `The file has ${found}; there must be at least ${least} to tell apart`;
  }
  if (labels.length > MOST_LABELS)
    return `The file has ${labels.length} labels; at most ${MOST_LABELS} are supported`;
  const weighted = typeof weights === 'object' && weights !== null ? Object.keys(weights) : [];
  const unknown = weighted.find(label => !labels.includes(label));
  return unknown === undefined ? null : `class_weights names ${JSON.stringify(unknown)}, which is no label`;
}
