// score_model: a model returns a number, which is clipped to the range of the grader.
import {
  type Grade,
  type GraderTools,
  GradingFailure,
  gradeOf,
  type ScoreModelGrader,
  type Subject,
} from './grader.ts';
import { judge } from './judge.ts';

export async function gradeScoreModel(
  grader: ScoreModelGrader,
  subject: Subject,
  tools: GraderTools,
  signal: AbortSignal,
): Promise<Grade> {
  const [low, high] = grader.range ?? [0, 1];
  const asked = { instruction: instruction(low, high), schema: ANSWER };
  const { answer, spent } = await judge(grader, asked, { subject, tools, signal });
  const result = readResult(answer.text);
  if (result === null)
    throw new GradingFailure('model_grader_parse_error', 'the model gave no number as its result', spent);
  const score = Math.min(high, Math.max(low, result));
  return gradeOf(score, score >= (grader.pass_threshold ?? (low + high) / 2), spent);
}

const text = { type: 'string', maxLength: 200 };
/** Short, so that a small model gets to the result. */
const ANSWER = {
  type: 'object',
  properties: {
    steps: {
      type: 'array',
      maxItems: 4,
      items: {
        type: 'object',
        properties: { description: text, conclusion: text },
        required: ['description', 'conclusion'],
        additionalProperties: false,
      },
    },
    result: { type: 'number' },
  },
  required: ['steps', 'result'],
  additionalProperties: false,
};

const instruction = (low: number, high: number): string =>
  `Answer with JSON only: {"steps": [{"description": "...", "conclusion": "..."}], "result": number}. The result is your score, from ${low} to ${high}.`;

/** `result` of the JSON in an answer, or an answer that is only a number. */
export function readResult(text: string): number | null {
  const trimmed = text.trim();
  if (/^[-+]?\d+(\.\d+)?$/.test(trimmed)) return Number(trimmed);
  for (const candidate of [trimmed, trimmed.slice(trimmed.indexOf('{'), trimmed.lastIndexOf('}') + 1)]) {
    const result = readNumber(candidate);
    if (result !== null) return result;
  }
  return null;
}

function readNumber(json: string): number | null {
  try {
    const { result } = JSON.parse(json) as { result?: unknown };
    return typeof result === 'number' ? result : null;
  } catch {
    return null;
  }
}
