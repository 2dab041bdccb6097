// label_model: a model chooses one of several labels, some of which pass.
import {
  type Grade,
  type GraderTools,
  GradingFailure,
  gradeOf,
  type LabelModelGrader,
  type Subject,
} from './grader.ts';
import { judge } from './judge.ts';

export async function gradeLabelModel(
  grader: LabelModelGrader,
  subject: Subject,
  tools: GraderTools,
  signal: AbortSignal,
): Promise<Grade> {
  const instruction = `Answer with exactly one of these labels and nothing else: ${grader.labels.join(', ')}`;
  const asked = { instruction, schema: { type: 'string', enum: grader.labels } };
  const { answer, spent } = await judge(grader, asked, { subject, tools, signal });
  const label = readLabel(answer.text, grader.labels);
  if (label === null)
    throw new GradingFailure('model_grader_parse_error', 'the model gave none of the labels', spent);
  const passed = grader.passing_labels.includes(label);
  return gradeOf(passed ? 1 : 0, passed, spent);
}

/** The label that equals the answer, ignoring case, quotes and a full stop; otherwise the only label that it contains. */
export function readLabel(text: string, labels: readonly string[]): string | null {
  const plain = (each: string): string =>
    each
      .trim()
      .replace(/^["'`*]+|["'`*.]+$/g, '')
      .toLowerCase();
  const same =
    labels.find(label => label === text.trim()) ?? labels.find(label => plain(label) === plain(text));
  if (same !== undefined) return same;
  const inside = labels.filter(label => holdsWord(text, label));
  return inside.length === 1 ? inside[0]! : null;
}

function holdsWord(text: string, word: string): boolean {
  const escaped = word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`(?<![\\p{L}\\p{N}])${escaped}(?![\\p{L}\\p{N}])`, 'iu').test(text);
}
