// What a grader is, what it judges, what it is given to do so, and what it says: plain data, in the words of the wire.
// How each kind grades is in a file of its own.
import type { Tool, ToolCall } from '../../data/conversation.ts';
import type { AnswerForm } from '../../serving/answer-grammar.ts';
import type { PythonSandbox } from '../sandbox/sandbox.ts';

export interface StringCheckGrader {
  type: 'string_check';
  name: string;
  input: string;
  reference: string;
  operation: 'eq' | 'ne' | 'like' | 'ilike';
}

export const similarityMetrics = [
  'cosine',
  'fuzzy_match',
  'bleu',
  'gleu',
  'meteor',
  'rouge_1',
  'rouge_2',
  'rouge_3',
  'rouge_4',
  'rouge_5',
  'rouge_l',
] as const;
export type SimilarityMetric = (typeof similarityMetrics)[number];

export interface TextSimilarityGrader {
  type: 'text_similarity';
  name: string;
  input: string;
  reference: string;
  evaluation_metric: SimilarityMetric;
  pass_threshold?: number;
}

export type ContentPart = string | { type: string; text?: string };

export interface InputMessage {
  role: 'user' | 'assistant' | 'system' | 'developer';
  content: ContentPart | ContentPart[];
}

export interface JudgeSampling {
  seed?: number | null;
  top_p?: number | null;
  temperature?: number | null;
  max_completions_tokens?: number | null;
  reasoning_effort?: string | null;
}

export interface ScoreModelGrader {
  type: 'score_model';
  name: string;
  model: string;
  input: InputMessage[];
  range?: [number, number];
  sampling_params?: JudgeSampling;
  pass_threshold?: number;
}

export interface LabelModelGrader {
  type: 'label_model';
  name: string;
  model: string;
  input: InputMessage[];
  labels: string[];
  passing_labels: string[];
}

export interface PythonGrader {
  type: 'python';
  name: string;
  source: string;
  pass_threshold?: number;
}

export type SingleGrader =
  | StringCheckGrader
  | TextSimilarityGrader
  | ScoreModelGrader
  | LabelModelGrader
  | PythonGrader;

export interface MultiGrader {
  type: 'multi';
  name: string;
  /** One grader, several, or several by name: OpenAI's schema, its example and its guide differ. */
  graders: SingleGrader | SingleGrader[] | Record<string, SingleGrader>;
  calculate_output: string;
}

export type Grader = SingleGrader | MultiGrader;

/** What is graded; templates and Python see both. */
export interface Subject {
  item: unknown;
  sample: Sample;
}

export interface Sample {
  output_text: string;
  /** Where the output is JSON. */
  output_json?: unknown;
  output_tools?: unknown[];
  choices?: unknown[];
}

/** The sample of a text that a model has said. */
export function sampleOf(text: string, toolCalls: ToolCall[] = []): Sample {
  const message = {
    role: 'assistant',
    content: text,
    ...(toolCalls.length > 0 ? { tool_calls: toolCalls } : {}),
  };
  const sample: Sample = { output_text: text, output_tools: toolCalls, choices: [{ message }] };
  try {
    return { ...sample, output_json: JSON.parse(text) };
  } catch {
    return sample;
  }
}

// ---- what graders are given

export interface ChatQuestion {
  model: string;
  messages: { role: string; content: string }[];
  /** What an answer of a model served here is held to; null: any text. */
  form: AnswerForm | null;
  /** As chat templates take them. */
  tools: Tool[] | null;
  temperature: number;
  topP: number;
  seed: number;
  /** Null: as many as the model takes. */
  maxTokens: number | null;
}

export interface TokenUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  cached_tokens: number;
}

export const NO_TOKENS: TokenUsage = {
  prompt_tokens: 0,
  completion_tokens: 0,
  total_tokens: 0,
  cached_tokens: 0,
};

export function addUsage(a: TokenUsage, b: TokenUsage): TokenUsage {
  return {
    prompt_tokens: a.prompt_tokens + b.prompt_tokens,
    completion_tokens: a.completion_tokens + b.completion_tokens,
    total_tokens: a.total_tokens + b.total_tokens,
    cached_tokens: a.cached_tokens + b.cached_tokens,
  };
}

export interface ChatAnswer {
  text: string;
  toolCalls: ToolCall[];
  refusal: string | null;
  finishReason: string;
  usage: TokenUsage;
}

export interface GraderTools {
  /** Throws ApiError where the model cannot be asked. */
  ask(question: ChatQuestion, signal: AbortSignal): Promise<ChatAnswer>;
  /** Null where nothing here makes embeddings. */
  embed: ((texts: string[], signal: AbortSignal) => Promise<number[][]>) | null;
  python: PythonSandbox;
  /** Whose Python it is; see PythonSandbox. */
  owner: string | null;
}

// ---- what graders say

export const graderErrors = [
  'formula_parse_error',
  'sample_parse_error',
  'truncated_observation_error',
  'unresponsive_reward_error',
  'invalid_variable_error',
  'other_error',
  'python_grader_server_error',
  'python_grader_runtime_error',
  'model_grader_server_error',
  'model_grader_refusal_error',
  'model_grader_parse_error',
] as const;
export type GraderErrorKind = (typeof graderErrors)[number];

export interface GraderError {
  kind: GraderErrorKind;
  details: string;
}

export interface Grade {
  /** 0 where there was an error. */
  score: number;
  /** As evaluations count it. */
  passed: boolean;
  errors: GraderError[];
  /** Of the graders in it. */
  scores: Record<string, number>;
  /** What asking a model took. */
  usage: { model: string; tokens: TokenUsage }[];
  /** What the model that judged was asked and said. */
  judgement: { input: { role: string; content: string }[]; output: string } | null;
}

export function gradeOf(score: number, passed: boolean, more: Partial<Grade> = {}): Grade {
  return { score, passed, errors: [], scores: {}, usage: [], judgement: null, ...more };
}

/** Thrown by a grader: nothing can be said of this sample. */
export class GradingFailure extends Error {
  readonly kind: GraderErrorKind;
  /** What it took nevertheless. */
  readonly spent: Partial<Grade>;

  constructor(kind: GraderErrorKind, details: string, spent: Partial<Grade> = {}) {
    super(details);
    this.kind = kind;
    this.spent = spent;
  }
}
