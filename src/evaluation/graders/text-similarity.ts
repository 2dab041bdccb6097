// text_similarity: similarity of two texts by a given metric, 0 to 1.
import { ApiError } from '../../errors.ts';
import { LimitReached } from '../../metering/admission.ts';
import { sentenceBleu } from '../bleu.ts';
import { fuzzyMatch } from '../fuzzy-match.ts';
import { gleu } from '../gleu.ts';
import { meteor } from '../meteor.ts';
import { rougeLOf } from '../rouge-l.ts';
import { rougeNOf } from '../rouge-n.ts';
import {
  type Grade,
  type GraderTools,
  GradingFailure,
  gradeOf,
  type SimilarityMetric,
  type Subject,
  type TextSimilarityGrader,
} from './grader.ts';
import { renderTemplate } from './template.ts';

/** Some metrics take quadratic time. */
export const LONGEST_TEXT = 50_000;
const DEFAULT_THRESHOLD = 0.5;

const metrics: Record<Exclude<SimilarityMetric, 'cosine'>, (input: string, reference: string) => number> = {
  fuzzy_match: fuzzyMatch,
  bleu: (input, reference) => sentenceBleu(input, reference) / 100,
  gleu,
  meteor,
  rouge_1: (input, reference) => rougeNOf(input, reference, 1),
  rouge_2: (input, reference) => rougeNOf(input, reference, 2),
  rouge_3: (input, reference) => rougeNOf(input, reference, 3),
  rouge_4: (input, reference) => rougeNOf(input, reference, 4),
  rouge_5: (input, reference) => rougeNOf(input, reference, 5),
  rouge_l: rougeLOf,
};

export async function gradeTextSimilarity(
  grader: TextSimilarityGrader,
  subject: Subject,
  tools: Pick<GraderTools, 'embed'>,
  signal: AbortSignal,
): Promise<Grade> {
  const input = renderTemplate(grader.input, subject);
  const reference = renderTemplate(grader.reference, subject);
  if (Math.max(input.length, reference.length) > LONGEST_TEXT)
    throw new GradingFailure('other_error', `texts of up to ${LONGEST_TEXT} characters can be compared`);
  const metric = grader.evaluation_metric;
  const score =
    metric === 'cosine' ? await cosine(input, reference, tools, signal) : metrics[metric](input, reference);
  return gradeOf(score, score >= (grader.pass_threshold ?? DEFAULT_THRESHOLD));
}

async function cosine(
  input: string,
  reference: string,
  { embed }: Pick<GraderTools, 'embed'>,
  signal: AbortSignal,
): Promise<number> {
  if (!embed) throw new GradingFailure('other_error', 'no model for embeddings is configured');
  const [a, b] = (await embed([input, reference], signal).catch(error => {
    const isFailure = error instanceof ApiError && !(error instanceof LimitReached);
    throw isFailure ? new GradingFailure('other_error', error.message) : error;
  })) as [number[], number[]];
  const dot = (x: number[], y: number[]): number => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
  const length = Math.sqrt(dot(a, a) * dot(b, b));
  return length === 0 ? 0 : dot(a, b) / length;
}
