// The label set of a classification file, with counts, and checks across lines. Checks of single lines are in line-rules.ts.
import { createReadStream } from 'node:fs';
import { readLines } from './jsonl.ts';
import type { Finding } from './line-rules.ts';

/** Maximum number of classes. */
export const MOST_LABELS = 1000;
export const LONGEST_LABEL = 256;

/** Label settings of a job. */
export interface LabelSettings {
  /** All labels, in class order; default: those of the training file, sorted. */
  labels?: string[] | null;
  /** Loss weight of each class; default 1. */
  class_weights?: 'balanced' | Record<string, number> | null;
}

export interface LabelSet {
  /** Multi-label: lines have `labels`, any number of them, instead of one `label`. */
  readonly multiple: boolean;
  /** In class order. */
  readonly labels: readonly string[];
  readonly lines: number;
  /** Number of lines with each label. */
  readonly counts: ReadonlyMap<string, number>;
}

/** Labels of a parsed line; null if it has none in a valid form. */
export function labelsOf(line: unknown): { multiple: boolean; labels: string[] } | null {
  const { label, labels } = (line ?? {}) as { label?: unknown; labels?: unknown };
  if (typeof label === 'string' && labels === undefined) return { multiple: false, labels: [label] };
  const isList = Array.isArray(labels) && labels.every(each => typeof each === 'string');
  return isList && label === undefined ? { multiple: true, labels } : null;
}

/** Collects the labels of a file. The first line determines whether it is multi-label. */
function countLabels(given: readonly string[] | null | undefined) {
  const counts = new Map<string, number>();
  let multiple: boolean | null = null;
  let lines = 0;
  return {
    /** Returns false for a line of the other form, which is not counted. */
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

/** Also accepts files that have not been validated: lines without labels are skipped. */
export async function readLabels(file: string, settings: LabelSettings): Promise<LabelSet> {
  const census = countLabels(settings.labels);
  for await (const line of readLines(createReadStream(file, { highWaterMark: 1 << 20 }))) {
    const found = 'problem' in line ? null : labelsOf(parseOrNull(line.text));
    if (found) census.add(found);
  }
  return census.close();
}

/** Null for invalid JSON. */
export function parseOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Checks the labels of a file against each other and against the settings of the job. */
export interface LabelCheck {
  findings(line: unknown): Finding[];
  close(): { labels: LabelSet; problem: string | null };
}

/** `training`: labels of the training file when a validation file is checked; null for the training file itself. */
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

/** Why a model cannot be trained on these labels; null if it can. */
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
