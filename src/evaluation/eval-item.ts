// One item of an evaluation run: takes its answer from the data or generates it, then grades it by each criterion.
// Independent of the database and the queue.
import { ApiError } from '../errors.ts';
import { LimitReached } from '../metering/admission.ts';
import type { ItemStatus, NewOutputItem, RunDataSource } from '../store/eval-runs.ts';
import { grade } from './graders/grade.ts';
import {
  type ChatAnswer,
  type ChatQuestion,
  type Grade,
  type GraderTools,
  GradingFailure,
  type InputMessage,
  NO_TOKENS,
  type Sample,
  type SingleGrader,
  sampleOf,
} from './graders/grader.ts';
import { renderContent, renderMessages } from './graders/judge.ts';
import { resolvePath } from './graders/template.ts';
import type { AskedSampling } from './run-sampling.ts';

export interface SourceItem {
  /** 0-based index in the data source. */
  index: number;
  item: Record<string, unknown>;
  /** Answer from the data source. */
  sample: Record<string, unknown> | null;
}

export interface ItemPlan {
  criteria: readonly SingleGrader[];
  dataSource: RunDataSource;
  sampling: AskedSampling;
  tools: GraderTools;
}

/** The answer to an item and its origin. */
interface Answered {
  sample: Sample;
  question: Pick<ChatQuestion, 'messages'> | null;
  answer: ChatAnswer | null;
}

/** Throws the signal's reason, LimitReached and internal errors. Errors of the item itself are part of the result. */
export async function evaluateItem(
  plan: ItemPlan,
  source: SourceItem,
  signal: AbortSignal,
): Promise<NewOutputItem> {
  try {
    const answered = await answerItem(plan, source, signal);
    const subject = { item: source.item, sample: answered.sample };
    const grades = await Promise.all(
      plan.criteria.map(criterion => grade(criterion, subject, plan.tools, signal)),
    );
    return toOutputItem(plan, source, answered, grades);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof LimitReached) throw error;
    if (error instanceof ApiError || error instanceof GradingFailure)
      return toFailedItem(plan, source, error);
    throw error;
  }
}

async function answerItem(
  plan: ItemPlan,
  { item, sample }: SourceItem,
  signal: AbortSignal,
): Promise<Answered> {
  const { dataSource, sampling, tools } = plan;
  const given = sample ? readGivenSample(sample) : sampleOf('');
  if (!dataSource.model || !dataSource.input_messages) return { sample: given, question: null, answer: null };
  const question: ChatQuestion = {
    ...sampling,
    model: dataSource.model,
    messages: readMessages(dataSource.input_messages, { item, sample: given }),
  };
  const answer = await tools.ask(question, signal);
  return { sample: sampleOf(answer.text, answer.toolCalls), question, answer };
}

/** Adds the fields that are derived from the text. */
function readGivenSample(sample: Record<string, unknown>): Sample {
  const text = typeof sample.output_text === 'string' ? sample.output_text : '';
  return { ...sampleOf(text), ...sample, output_text: text };
}

function readMessages(
  input: NonNullable<RunDataSource['input_messages']>,
  subject: { item: unknown; sample: Sample },
): ChatQuestion['messages'] {
  if (input.type === 'template') return renderMessages(input.template as InputMessage[], subject);
  const found = resolvePath(input.item_reference, subject);
  if (typeof found === 'string') return [{ role: 'user', content: found }];
  if (!Array.isArray(found) || found.length === 0 || !found.every(isMessage))
    throw new GradingFailure('invalid_variable_error', `${input.item_reference} holds no messages`);
  return found.map(({ role, content }) => ({ role, content: renderContent(content, text => text) }));
}

function isMessage(value: unknown): value is InputMessage {
  return typeof value === 'object' && value !== null && 'role' in value && 'content' in value;
}

// ---- database rows and API objects

function toOutputItem(
  plan: ItemPlan,
  source: SourceItem,
  answered: Answered,
  grades: readonly Grade[],
): NewOutputItem {
  const passed = grades.map(each => each.passed);
  const status: ItemStatus = grades.some(each => each.errors.length > 0)
    ? 'error'
    : passed.every(each => each)
      ? 'pass'
      : 'fail';
  const usage = grades.flatMap(each => each.usage);
  const asked = answered.answer && { model: plan.dataSource.model!, tokens: answered.answer.usage };
  return {
    status,
    itemIndex: source.index,
    item: source.item,
    results: plan.criteria.map((criterion, i) => toResult(criterion, grades[i]!)),
    sample: toSample(plan, answered, null),
    passed,
    usage: asked ? [asked, ...usage] : usage,
  };
}

function toFailedItem(plan: ItemPlan, source: SourceItem, error: ApiError | GradingFailure): NewOutputItem {
  const nothing: Answered = { sample: sampleOf(''), question: null, answer: null };
  return {
    status: 'error',
    itemIndex: source.index,
    item: source.item,
    results: [],
    sample: toSample(plan, nothing, { code: error.kind, message: error.message }),
    passed: [],
    usage: [],
  };
}

/** `string-check-grader`, as OpenAI writes it. */
const resultType = (type: string): string => `${type.replaceAll('_', '-')}-grader`;

function toResult(
  criterion: SingleGrader,
  { score, passed, errors, judgement }: Grade,
): Record<string, unknown> {
  const output = judgement && [{ role: 'assistant', content: judgement.output }];
  return {
    name: criterion.name,
    type: resultType(criterion.type),
    score,
    passed,
    sample: judgement && { input: judgement.input, output },
    ...(errors.length > 0 ? { error: { code: errors[0]!.kind, message: errors[0]!.details } } : {}),
  };
}

/** Includes all fields, also when no model was called, since strict clients require them. */
function toSample(
  { dataSource, sampling }: ItemPlan,
  { sample, question, answer }: Answered,
  error: { code: string; message: string } | null,
): Record<string, unknown> {
  const { output_text: content, output_tools: calls } = sample;
  const output = { role: 'assistant', content, ...(calls?.length ? { tool_calls: calls } : {}) };
  return {
    input: question?.messages ?? [],
    output: answer || content ? [output] : [],
    finish_reason: answer?.finishReason ?? '',
    model: dataSource.model ?? '',
    usage: answer?.usage ?? NO_TOKENS,
    error: error ?? { code: '', message: '' },
    temperature: sampling.temperature,
    max_completion_tokens: sampling.maxTokens ?? 0,
    top_p: sampling.topP,
    seed: sampling.seed,
  };
}
