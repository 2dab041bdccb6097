// Validates graders beyond their schema, before they are used: variables, formulas, labels, sizes.
import { ApiError } from '../../errors.ts';
import { FormulaError, namesIn, parseFormula } from './formula.ts';
import type {
  Grader,
  InputMessage,
  LabelModelGrader,
  MultiGrader,
  PythonGrader,
  ScoreModelGrader,
  SimilarityMetric,
  SingleGrader,
  StringCheckGrader,
  TextSimilarityGrader,
} from './grader.ts';
import { partsOf } from './multi.ts';
import { LONGEST_SOURCE_BYTES } from './python.ts';
import { checkTemplate } from './template.ts';

type Check<Type extends SingleGrader['type']> = (
  grader: Extract<SingleGrader, { type: Type }>,
  at: string,
) => void;

const checks: { [Type in SingleGrader['type']]: Check<Type> } = {
  string_check: checkTexts,
  text_similarity: checkTexts,
  score_model: checkScoreModel,
  label_model: checkLabelModel,
  python: checkPython,
};

/** `at`: path of the grader in the request. Throws ApiError. */
export function checkGrader(grader: Grader, at: string): void {
  if (grader.type === 'multi') checkMulti(grader, at);
  else (checks[grader.type] as Check<SingleGrader['type']>)(grader as never, at);
}

/** The models that the grader uses, with the request parameters that name them. */
export function modelsOf(grader: Grader, at: string): { model: string; param: string }[] {
  if (grader.type === 'multi')
    return partsOf(grader).flatMap(([name, part]) => modelsOf(part, `${at}.graders.${name}`));
  return 'model' in grader ? [{ model: grader.model, param: `${at}.model` }] : [];
}

/** The text similarity metrics that the grader uses. */
export function metricsOf(grader: Grader): SimilarityMetric[] {
  if (grader.type === 'multi') return partsOf(grader).flatMap(([, part]) => metricsOf(part));
  return grader.type === 'text_similarity' ? [grader.evaluation_metric] : [];
}

function checkTexts(grader: StringCheckGrader | TextSimilarityGrader, at: string): void {
  checkTemplate(grader.input, `${at}.input`);
  checkTemplate(grader.reference, `${at}.reference`);
}

/** Messages may contain variables, but only text can be rendered into them. */
export function checkMessages(
  messages: readonly InputMessage[],
  at: string,
  namespaces?: Parameters<typeof checkTemplate>[2],
): void {
  messages.forEach(({ content }, i) => {
    for (const part of Array.isArray(content) ? content : [content]) {
      const param = `${at}[${i}].content`;
      const text = typeof part === 'string' ? part : part.text;
      if (text !== undefined) checkTemplate(text, param, namespaces);
      else throw invalid(param, 'only text is supported', 'unsupported_value');
    }
  });
}

function checkScoreModel(grader: ScoreModelGrader, at: string): void {
  checkMessages(grader.input, `${at}.input`);
  const { range } = grader;
  if (range && !(range[0] < range[1]))
    throw invalid(`${at}.range`, 'expected a smaller and a greater number');
}

function checkLabelModel(grader: LabelModelGrader, at: string): void {
  checkMessages(grader.input, `${at}.input`);
  const { labels } = grader;
  if (new Set(labels).size < labels.length) throw invalid(`${at}.labels`, 'a label is there twice');
  const stray = grader.passing_labels.find(label => !labels.includes(label));
  if (stray !== undefined) throw invalid(`${at}.passing_labels`, `'${stray}' is not among the labels`);
}

function checkPython({ source }: PythonGrader, at: string): void {
  if (Buffer.byteLength(source) > LONGEST_SOURCE_BYTES)
    throw invalid(
      `${at}.source`,
      `expected at most ${LONGEST_SOURCE_BYTES} bytes, got ${Buffer.byteLength(source)}`,
    );
  if (!/^\s*def\s+grade\s*\(|^\s*grade\s*=/m.test(source))
    throw invalid(`${at}.source`, 'it defines no function grade(sample, item)');
}

function checkMulti(grader: MultiGrader, at: string): void {
  const parts = partsOf(grader);
  const names = parts.map(([name]) => name);
  if (new Set(names).size < names.length) throw invalid(`${at}.graders`, 'two graders have the same name');
  for (const [name, part] of parts) checkGrader(part, `${at}.graders.${name}`);
  const param = `${at}.calculate_output`;
  const unknown = namesIn(readFormula(grader.calculate_output, param)).find(name => !names.includes(name));
  if (unknown !== undefined)
    throw invalid(
      param,
      `no grader is named '${unknown}'; there are ${names.map(name => `'${name}'`).join(', ')}`,
    );
}

function readFormula(text: string, param: string) {
  try {
    return parseFormula(text);
  } catch (error) {
    if (error instanceof FormulaError) throw invalid(param, error.message);
    throw error;
  }
}

function invalid(
  param: string,
  why: string,
  kind: 'invalid_value' | 'unsupported_value' = 'invalid_value',
): ApiError {
  return new ApiError(kind, `Invalid '${param}': ${why}.`, { param });
}
