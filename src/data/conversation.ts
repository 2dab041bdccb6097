// Types of conversations, as in OpenAI's requests and training files. Independent of templates and tokens.

export interface TextPart {
  type: 'text';
  text: string;
}

export interface ToolCall {
  id?: string;
  type?: 'function';
  function: { name: string; arguments: string | Record<string, unknown> };
}

export type Role = 'system' | 'developer' | 'user' | 'assistant' | 'tool' | 'function';

export interface Message {
  role: Role;
  content?: string | TextPart[] | null;
  name?: string;
  tool_calls?: ToolCall[];
  tool_call_id?: string;
  function_call?: { name: string; arguments: string };
  refusal?: string | null;
  /** Training files only: 0 excludes an assistant message from the loss. */
  weight?: 0 | 1;
}

/** `{type: 'function', function: {name, description, parameters}}`; passed to the template unchanged. */
export type Tool = Record<string, unknown>;

export interface ChatLine {
  messages: Message[];
  tools?: Tool[] | null;
  parallel_tool_calls?: boolean | null;
  /** Deprecated form of `tools`. */
  functions?: Record<string, unknown>[] | null;
}

export interface CompletionLine {
  prompt: string;
  completion: string;
}

export type TrainingLine = ChatLine | CompletionLine;

export function isChatLine(line: TrainingLine): line is ChatLine {
  return 'messages' in line;
}

/** Text of a message: parts joined by newlines; empty without content. */
export function contentText(content: Message['content']): string {
  if (content === null || content === undefined) return '';
  if (typeof content === 'string') return content;
  return content.map(part => part.text).join('\n');
}

/** The tools of a line, with deprecated `functions` converted; null if there are none. */
export function lineTools(line: ChatLine): Tool[] | null {
  if (line.tools && line.tools.length > 0) return line.tools;
  if (line.functions && line.functions.length > 0) {
    return line.functions.map(fn => ({ type: 'function', function: fn }));
  }
  return null;
}
