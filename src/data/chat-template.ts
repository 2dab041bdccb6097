// Chat templates: finds those of a model folder and renders conversations. Does not tokenize.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Environment, Interpreter, parse as parseTokens, tokenize } from '@huggingface/jinja';
import { contentText, type Message, type Tool } from './conversation.ts';
import { PYTHON_TEXT, withPythonText } from './python-text.ts';

/**
 * For models without a template: `User:\nHello\n\nAssistant:\nHi<eos>\n\n`. Headers end in a newline, so that the first token of
 * an answer does not depend on a space.
 */
export const PLAIN_TEMPLATE = [
  '{%- for message in messages -%}',
  "{{- (message.role | capitalize) + ':\\n' -}}",
  '{{- message.content -}}',
  '{%- for call in message.tool_calls or [] -%}{{- call.function | tojson -}}{%- endfor -%}',
  "{%- if message.role == 'assistant' -%}{{- eos_token -}}{%- endif -%}",
  "{{- '\\n\\n' -}}",
  '{%- endfor -%}',
  "{%- if add_generation_prompt -%}{{- 'Assistant:\\n' -}}{%- endif -%}",
].join('\n');

/** Thrown if a template rejects a conversation (`raise_exception`) or cannot be rendered; the message is the template's. */
export class TemplateError extends Error {
  override name = 'TemplateError';
}

export interface RenderOptions {
  addGenerationPrompt?: boolean;
  /** Time for `strftime_now`; default: the current time. */
  now?: Date;
}

export interface ChatTemplate {
  /** Template sources by name: `default`, and `tool_use` if the model has a separate one for conversations with tools. */
  readonly sources: Readonly<Record<string, string>>;
  /** Converts to the form that the template expects: `developer` as `system` if unsupported, arguments as objects. */
  prepare(messages: readonly Message[]): Record<string, unknown>[];
  /** Renders prepared messages. Throws TemplateError. */
  render(
    messages: readonly Record<string, unknown>[],
    tools: readonly Tool[] | null,
    options?: RenderOptions,
  ): string;
}

export async function loadChatTemplate(
  modelDirectory: string,
  tokenizerConfig: Record<string, unknown>,
  specialTokens: Readonly<Record<string, string>>,
): Promise<ChatTemplate> {
  const sources = (await templateFromFile(modelDirectory)) ?? templateFromConfig(tokenizerConfig);
  return chatTemplate(sources ?? { default: PLAIN_TEMPLATE }, specialTokens);
}

/** `specialTokens`: texts of special tokens by their template variables (`bos_token`, `eos_token`, ...). */
export function chatTemplate(
  sources: Readonly<Record<string, string>>,
  specialTokens: Readonly<Record<string, string>>,
): ChatTemplate {
  const parsed = Object.fromEntries(Object.entries(sources).map(([name, source]) => [name, parse(source)]));
  const knowsDeveloper = Object.values(sources).some(source => /['"]developer['"]/.test(source));
  const pick = (tools: readonly Tool[] | null) =>
    (tools && parsed.tool_use) || parsed.default || Object.values(parsed)[0]!;
  return {
    sources,
    prepare: messages => messages.map(message => prepareMessage(message, knowsDeveloper)),
    render: (messages, tools, options = {}) => {
      const now = options.now ?? new Date();
      try {
        return run(pick(tools), {
          ...GLOBALS,
          strftime_now: (format: string) => strftime(now, format),
          ...specialTokens,
          messages,
          tools,
          documents: null,
          add_generation_prompt: options.addGenerationPrompt ?? false,
        });
      } catch (cause) {
        throw new TemplateError(cause instanceof Error ? cause.message : String(cause), { cause });
      }
    },
  };
}

async function templateFromFile(modelDirectory: string): Promise<Record<string, string> | null> {
  const source = await readText(join(modelDirectory, 'chat_template.jinja'));
  if (source !== null) return { default: source };
  const json = await readText(join(modelDirectory, 'chat_template.json'));
  return json === null ? null : templateFromConfig(JSON.parse(json));
}

function templateFromConfig(config: Record<string, unknown>): Record<string, string> | null {
  const value = config.chat_template;
  if (typeof value === 'string') return { default: value };
  if (!Array.isArray(value) || value.length === 0) return null;
  return Object.fromEntries(value.map(({ name, template }) => [String(name), String(template)]));
}

async function readText(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

type Program = ReturnType<typeof parseTokens>;

/** The same environment as in transformers: `trim_blocks` and `lstrip_blocks`. */
function parse(source: string): Program {
  try {
    return withPythonText(parseTokens(tokenize(source, { lstrip_blocks: true, trim_blocks: true })));
  } catch (cause) {
    throw new TemplateError(`The chat template cannot be read: ${(cause as Error).message}`, { cause });
  }
}

function run(program: Program, variables: Record<string, unknown>): string {
  const environment = new Environment();
  for (const [name, value] of Object.entries(variables)) environment.set(name, value);
  return String(new Interpreter(environment).run(program).value);
}

/** Instead of the library's `Template`, whose `strftime_now` cannot be overridden. */
const GLOBALS: Record<string, unknown> = {
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  range,
  ...PYTHON_TEXT,
  raise_exception: (reason: string) => {
    throw new TemplateError(reason);
  },
};

/** Python's `range`. */
function range(start: number, stop?: number, step = 1): number[] {
  if (stop === undefined) return range(0, start);
  if (step === 0) throw new TemplateError('range() step must not be zero');
  const values: number[] = [];
  for (let value = start; step > 0 ? value < stop : value > stop; value += step) values.push(value);
  return values;
}

function prepareMessage(message: Message, knowsDeveloper: boolean): Record<string, unknown> {
  const { weight: _weight, function_call: functionCall, refusal, ...rest } = message;
  const prepared: Record<string, unknown> = { ...rest, role: templateRole(message.role, knowsDeveloper) };
  prepared.content = contentText(message.content) || (refusal ?? '');
  const calls =
    message.tool_calls ?? (functionCall ? [{ type: 'function' as const, function: functionCall }] : null);
  if (calls && calls.length > 0) prepared.tool_calls = calls.map(prepareCall);
  else delete prepared.tool_calls;
  return prepared;
}

function templateRole(role: Message['role'], knowsDeveloper: boolean): string {
  if (role === 'developer' && !knowsDeveloper) return 'system';
  return role === 'function' ? 'tool' : role;
}

/** OpenAI's arguments are a JSON string, but templates serialize them with `tojson`, so they are parsed. */
function prepareCall(call: NonNullable<Message['tool_calls']>[number]): Record<string, unknown> {
  return {
    ...call,
    type: 'function',
    function: { ...call.function, arguments: parseArguments(call.function.arguments) },
  };
}

function parseArguments(value: unknown): unknown {
  if (typeof value !== 'string') return value;
  try {
    const parsed = JSON.parse(value);
    return parsed !== null && typeof parsed === 'object' ? parsed : value;
  } catch {
    return value;
  }
}

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
];
const two = (value: number) => String(value).padStart(2, '0');

/** The `strftime` directives that templates use; in UTC, so that tokens do not depend on the time zone. */
const DIRECTIVES: Record<string, (date: Date) => string> = {
  a: date => DAYS[date.getUTCDay()]!.slice(0, 3),
  A: date => DAYS[date.getUTCDay()]!,
  b: date => MONTHS[date.getUTCMonth()]!.slice(0, 3),
  B: date => MONTHS[date.getUTCMonth()]!,
  d: date => two(date.getUTCDate()),
  m: date => two(date.getUTCMonth() + 1),
  y: date => two(date.getUTCFullYear() % 100),
  Y: date => String(date.getUTCFullYear()),
  H: date => two(date.getUTCHours()),
  I: date => two(date.getUTCHours() % 12 || 12),
  M: date => two(date.getUTCMinutes()),
  S: date => two(date.getUTCSeconds()),
  p: date => (date.getUTCHours() < 12 ? 'AM' : 'PM'),
  '%': () => '%',
};

function strftime(date: Date, format: string): string {
  return format.replace(/%(.)/g, (text, directive) => DIRECTIVES[directive]?.(date) ?? text);
}
