// Sampling parameters of an evaluation run, from its data source, with OpenAI's defaults.
import {
  type GivenFunction,
  readAnswerForm,
  readJsonFormat,
  unsupportedTool,
} from '../schemas/answer-forms.ts';
import type { RunDataSource } from '../store/eval-runs.ts';
import type { ChatQuestion } from './graders/grader.ts';

export type AskedSampling = Omit<ChatQuestion, 'model' | 'messages'>;

/** OpenAI's default seed; makes runs repeatable. */
const DEFAULT_SEED = 42;

interface SamplingParams {
  temperature?: number | null;
  top_p?: number | null;
  seed?: number | null;
  max_completion_tokens?: number | null;
  response_format?: Format | null;
  text?: { format?: (Format & Format['json_schema']) | null } | null;
  tools?: GivenTool[] | null;
}

interface Format {
  type: string;
  json_schema?: { schema?: Record<string, unknown> | null; strict?: boolean | null };
}

/** Chat completions nest the format, responses do not. */
type GivenTool = { type: string; function?: Omit<GivenFunction, 'at'> } & Partial<Omit<GivenFunction, 'at'>>;

const AT = 'data_source.sampling_params';

/** Throws ApiError for unsupported tools and formats. */
export function readSampling({ sampling_params }: RunDataSource): AskedSampling {
  const params = (sampling_params ?? {}) as SamplingParams;
  const { tools, form } = readAnswerForm({
    functions: (params.tools ?? []).map(readTool),
    choice: null,
    parallel: true,
    json: readFormat(params),
  });
  return {
    form,
    tools,
    temperature: params.temperature ?? 1,
    topP: params.top_p ?? 1,
    seed: params.seed ?? DEFAULT_SEED,
    maxTokens: params.max_completion_tokens ?? null,
  };
}

function readFormat({ response_format, text }: SamplingParams) {
  const nested = response_format && { type: response_format.type, ...response_format.json_schema };
  return readJsonFormat(
    nested ?? text?.format ?? null,
    nested ? `${AT}.response_format` : `${AT}.text.format`,
  );
}

function readTool(tool: GivenTool, i: number): GivenFunction {
  const at = `${AT}.tools[${i}]`;
  if (tool.type !== 'function') throw unsupportedTool(at, tool.type);
  return tool.function ? { ...tool.function, at: `${at}.function` } : { ...tool, name: tool.name ?? '', at };
}
