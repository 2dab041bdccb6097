// Types of graders, of what they judge, of their tools and of grades, named as in the API. Each grader type is implemented in its own
// file.
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
  /** One grader, a list, or a map by name: OpenAI's schema, its example and its guide differ. */
  graders: SingleGrader | SingleGrader[] | Record<string, SingleGrader>;
  calculate_output: string;
}

export type Grader = SingleGrader | MultiGrader;

/** What is graded, and the variables of templates and Python. */
export interface Subject {
  item: unknown;
  sample: Sample;
}

export interface Sample {
  output_text: string;
  /** If the output is JSON. */
  output_json?: unknown;
  output_tools?: unknown[];
  choices?: unknown[];
}

/** The sample for a generated text. */
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

// ---- tools of graders

export interface ChatQuestion {
  model: string;
  messages: { role: string; content: string }[];
  /** Constrains the output of models served here; null for any text. */
  form: AnswerForm | null;
  /** In the form that chat templates expect. */
  tools: Tool[] | null;
  temperature: number;
  topP: number;
  seed: number;
  /** Null for the model's limit. */
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
  /** Throws ApiError if the request fails. */
  ask(question: ChatQuestion, signal: AbortSignal): Promise<ChatAnswer>;
  /** Null if no embedding model is available. */
  embed: ((texts: string[], signal: AbortSignal) => Promise<number[][]>) | null;
  python: PythonSandbox;
  /** Owner of the Python code; see PythonSandbox. */
  owner: string | null;
}

// ---- grades

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
  /** 0 on errors. */
  score: number;
  /** Whether evaluations count it as passed. */
  passed: boolean;
  errors: GraderError[];
  /** Scores of the parts of a multi grader, by name. */
  scores: Record<string, number>;
  /** Tokens of model requests. */
  usage: { model: string; tokens: TokenUsage }[];
  /** Input and output of the judge model. */
  judgement: { input: { role: string; content: string }[]; output: string } | null;
}

export function gradeOf(score: number, passed: boolean, more: Partial<Grade> = {}): Grade {
  return { score, passed, errors: [], scores: {}, usage: [], judgement: null, ...more };
}

/** Thrown by graders that cannot grade a sample. */
export class GradingFailure extends Error {
  readonly kind: GraderErrorKind;
  /** Usage and judgement up to the failure. */
  readonly spent: Partial<Grade>;

  constructor(kind: GraderErrorKind, details: string, spent: Partial<Grade> = {}) {
    super(details);
    this.kind = kind;
    this.spent = spent;
  }
}
