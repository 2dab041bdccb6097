// Validates a training or validation file as a stream: reads all lines and keeps the errors of the first hundred invalid ones. Rules for
// lines are in line-rules.ts, checks of label sets in labels.ts. Does not tokenize.
import { describeJsonError, findJsonError } from './json-error.ts';
import { type ByteSource, readLines } from './jsonl.ts';
import { type LabelCheck, type LabelSet, type LabelSettings, openLabelCheck } from './labels.ts';
import { checkLine, type Finding, type LineFormat, lineFormat } from './line-rules.ts';

export const MIN_TRAINING_EXAMPLES = 10;
/** Invalid lines whose errors are kept; all are counted. */
const KEPT_LINES = 100;
/** Per line, since a long one may have thousands. */
const KEPT_OF_A_LINE = 10;

export type FileKind = 'training' | 'validation';
export type Method = 'supervised' | 'dpo' | 'reinforcement' | 'classification' | 'regression' | 'embedding';

export interface LineError {
  /** 1-based. */
  line: number;
  /** JSON path in the line: `messages[1].role`; empty for the line itself. */
  path: string;
  /** In OpenAI's wording: `Example 100, message 2 Discriminator 'role' is missing in value`. */
  message: string;
}

export interface ValidationReport {
  kind: FileKind;
  method: Method;
  /** Format of the first line whose format is recognizable. */
  format: LineFormat | null;
  /** Lines that are not blank, valid or not. */
  examples: number;
  /** The first errors of the first `keptLines` invalid lines. */
  errors: LineError[];
  /** All errors; a line may have several. */
  errorCount: number;
  /** Lines with an error. */
  badLines: number;
  /** Only for classification; otherwise null. */
  labels: LabelSet | null;
  /** An error of the file as a whole, if all its lines are valid. */
  problem: string | null;
}

export interface ValidationOptions {
  kind: FileKind;
  method: Method;
  /** Settings of the job's method. */
  settings?: object;
  /** Report of the training file, for a validation file. */
  training?: ValidationReport | null;
  signal?: AbortSignal;
  /** Invalid lines whose errors are kept; default KEPT_LINES. */
  keptLines?: number;
  /** Called for each invalid line. */
  onBadLine?: (line: number) => void;
}

/** Reads `source` to its end. Never throws because of its content. */
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

/** Whether the format of the file is that of the job's method. */
export const fitsMethod = ({ format, method }: ValidationReport): boolean =>
  format === null || FORMATS[format].method === method;

export interface JobError {
  code: string;
  param: string;
  message: string;
}

/**
 * The `error` of a job whose file cannot be used; null if it can. `fileId` and `param`: as in the job; `rest`: where to find the
 * complete list of errors.
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

/** OpenAI's name of each format, and the method that reads it. */
const FORMATS = {
  chat: { name: 'fine-tune-chat', method: 'supervised' },
  completion: { name: 'fine-tune-completions', method: 'supervised' },
  preference: { name: 'fine-tune-preference', method: 'dpo' },
  classification: { name: 'classification', method: 'classification' },
  regression: { name: 'regression', method: 'regression' },
  pairs: { name: 'pairs', method: 'embedding' },
  prompt: { name: 'fine-tune-reinforcement', method: 'reinforcement' },
} satisfies Record<LineFormat, { name: string; method: Method }>;

/** Format to check a line against if neither it nor the file shows one. */
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
