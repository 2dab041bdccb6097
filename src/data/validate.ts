// Validates a training or validation file as a stream: every line is read, what is wrong with the first hundred bad ones is kept.
// What a line must be is in line-rules.ts, what labels must be together in labels.ts; nothing here knows tokens.
import { describeJsonError, findJsonError } from './json-error.ts';
import { type ByteSource, readLines } from './jsonl.ts';
import { type LabelCheck, type LabelSet, type LabelSettings, openLabelCheck } from './labels.ts';
import { checkLine, type Finding, type LineFormat, lineFormat } from './line-rules.ts';

export const MIN_TRAINING_EXAMPLES = 10;
/** Bad lines whose findings are kept with their place; all are counted. */
const KEPT_LINES = 100;
/** Of one line: a long one may have thousands. */
const KEPT_OF_A_LINE = 10;

export type FileKind = 'training' | 'validation';
export type Method = 'supervised' | 'dpo' | 'reinforcement' | 'classification' | 'regression' | 'embedding';

export interface LineError {
  /** 1-based. */
  line: number;
  /** JSON path within the line: `messages[1].role`; empty for the line itself. */
  path: string;
  /** A sentence in OpenAI's form: `Example 100, message 2 Discriminator 'role' is missing in value`. */
  message: string;
}

export interface ValidationReport {
  kind: FileKind;
  method: Method;
  /** Of the first line that shows one. */
  format: LineFormat | null;
  /** Lines that are not blank, right or wrong. */
  examples: number;
  /** The first findings of the first `keptLines` bad lines. */
  errors: LineError[];
  /** All findings; a line may have several. */
  errorCount: number;
  /** Lines with a finding. */
  badLines: number;
  /** Of a file for classification; null for others. */
  labels: LabelSet | null;
  /** What is wrong with a file whose lines are right. */
  problem: string | null;
}

export interface ValidationOptions {
  kind: FileKind;
  method: Method;
  /** What the job asks of its method, in the method's own form. */
  settings?: object;
  /** Of the training file, where this is the file that a run is measured on. */
  training?: ValidationReport | null;
  signal?: AbortSignal;
  /** Bad lines whose findings are kept; KEPT_LINES where absent. */
  keptLines?: number;
  /** Told of every line with a finding. */
  onBadLine?: (line: number) => void;
}

/** Reads `source` to its end. Never throws for what the bytes are. */
export async function validateTrainingFile(
  source: ByteSource,
  options: ValidationOptions,
): Promise<ValidationReport> {
  const { kind, method, signal, keptLines = KEPT_LINES, onBadLine } = options;
  const report: ValidationReport = {
    kind,
    method,
    format: null,
    examples: 0,
    errors: [],
    errorCount: 0,
    badLines: 0,
    labels: null,
    problem: null,
  };
  const labels =
    method === 'classification'
      ? openLabelCheck((options.settings ?? {}) as LabelSettings, options.training?.labels ?? null)
      : null;
  for await (const line of readLines(source)) {
    signal?.throwIfAborted();
    report.examples += 1;
    const findings =
      'problem' in line
        ? [unreadable(line.message, line.number)]
        : lineFindings(line.text, line.number, { report, labels });
    if (findings.length === 0) continue;
    report.badLines += 1;
    onBadLine?.(line.number);
    report.errorCount += findings.length;
    if (report.badLines > keptLines) continue;
    for (const { path, text } of findings.slice(0, KEPT_OF_A_LINE)) {
      report.errors.push({ line: line.number, path, message: `Example ${line.number}${text}` });
    }
  }
  return { ...report, ...labels?.close() };
}

/** Whether the file's lines are what its job's method reads. */
export const fitsMethod = ({ format, method }: ValidationReport): boolean =>
  format === null || FORMATS[format].method === method;

export interface JobError {
  code: string;
  param: string;
  message: string;
}

/**
 * The job's `error` for a file that cannot be used; null when it can. `fileId` and `param` are as the job names them, `rest` is where
 * all that is wrong stands.
 */
export function toJobError(
  report: ValidationReport,
  fileId: string,
  param: 'training_file' | 'validation_file',
  rest = "the job's events",
): JobError | null {
  const { kind, method, format, errors } = report;
  const invalid = (reason: string): JobError => ({
    code: `invalid_${kind}_file`,
    param,
    message: `The job failed due to an invalid ${kind} file. Invalid file format. ${reason}`,
  });
  if (format !== null && !fitsMethod(report)) {
    const { name, method: needed } = FORMATS[format];
    return invalid(
      `Input file ${fileId} is in the ${name} format, but the specified fine-tuning job is not using '${needed}' as the training method (provided method=${method}). `,
    );
  }
  const first = errors[0];
  if (first !== undefined) {
    const more = report.errorCount > 1 ? ` (${report.errorCount - 1} more: see ${rest})` : '';
    if (!first.message.includes(' contains an extra ')) return invalid(first.message + more);
    const message = `The job failed due to a file format error in the ${kind} file. Invalid file format. ${first.message}${more}`;
    return { code: 'invalid_file_format', param, message };
  }
  if (report.problem !== null) return invalid(report.problem);
  const least = kind === 'training' ? MIN_TRAINING_EXAMPLES : 1;
  if (report.examples >= least) return null;
  const file = kind === 'training' ? 'Training' : 'Validation';
  return {
    code: 'invalid_n_examples',
    param,
    message: `${file} file has ${report.examples} example(s), but must have at least ${least} ${least === 1 ? 'example' : 'examples'}`,
  };
}

/** OpenAI's name of a format, and the method that reads it. */
const FORMATS = {
  chat: { name: 'fine-tune-chat', method: 'supervised' },
  completion: { name: 'fine-tune-completions', method: 'supervised' },
  preference: { name: 'fine-tune-preference', method: 'dpo' },
  classification: { name: 'classification', method: 'classification' },
  regression: { name: 'regression', method: 'regression' },
  pairs: { name: 'pairs', method: 'embedding' },
  prompt: { name: 'fine-tune-reinforcement', method: 'reinforcement' },
} satisfies Record<LineFormat, { name: string; method: Method }>;

/** What a line is held against that could be of any format. */
const EXPECTED: Readonly<Record<Method, LineFormat>> = {
  supervised: 'chat',
  dpo: 'preference',
  reinforcement: 'prompt',
  classification: 'classification',
  regression: 'regression',
  embedding: 'pairs',
};

interface Reading {
  report: ValidationReport;
  labels: LabelCheck | null;
}

function lineFindings(text: string, number: number, { report, labels }: Reading): Finding[] {
  const parsed = parseJson(text);
  if (!parsed.ok) return [unreadable(`line contains invalid json: ${parsed.reason}`, number)];
  const format = report.method === 'reinforcement' ? 'prompt' : lineFormat(parsed.value);
  report.format ??= format;
  if (format !== null && format !== report.format) {
    const text = ` is in the ${FORMATS[format].name} format, but the file begins in the ${FORMATS[report.format!].name} format`;
    return [{ path: '', text }];
  }
  const findings = checkLine(parsed.value, format ?? report.format ?? EXPECTED[report.method]);
  return findings.length > 0 ? findings : (labels?.findings(parsed.value) ?? []);
}

function unreadable(reason: string, number: number): Finding {
  return { path: '', text: ` cannot be parsed. Error: ${reason} (line ${number})` };
}

function parseJson(text: string): { ok: true; value: unknown } | { ok: false; reason: string } {
  try {
    return { ok: true, value: JSON.parse(text) };
  } catch (error) {
    const found = findJsonError(text);
    return { ok: false, reason: found === null ? (error as Error).message : describeJsonError(found) };
  }
}
