// Examples of reinforcement: lines without answers. The messages become the prompt, all other keys are data for graders.
import { createReadStream } from 'node:fs';
import { TemplateError } from './chat-template.ts';
import type { Message, Tool } from './conversation.ts';
import type { ExampleForm } from './example-form.ts';
import { TRAINING_DATE } from './examples.ts';
import { readLines } from './jsonl.ts';

export interface PromptLine {
  messages: Message[];
  tools?: Tool[] | null;
  /** Available to graders as `{{item...}}`. */
  [key: string]: unknown;
}

const NO_CALLS = 'it does not support tools, or writes calls in an unknown form';

/** Prompts that leave no room for an answer are truncated from the left, to keep the question. `calls`: the model supports tool calls. */
export const promptForm = (answerLength: number, calls: boolean): ExampleForm => ({
  identity: `prompt-${answerLength}`,
  sequences: 1,
  values: 0,
  generates: false,
  examples(given, tokenizer) {
    const { messages, tools = null } = given as PromptLine;
    if (tools?.length && !calls) throw new TemplateError(NO_CALLS);
    const ids = tokenizer.encodeChat(messages, tools, { addGenerationPrompt: true, now: TRAINING_DATE });
    return [
      { sequences: [{ tokens: Int32Array.from(ids), trained: new Uint8Array(ids.length) }], values: [] },
    ];
  },
  teaches: () => true,
  answer: () => null,
  truncate(sequence, maxLength) {
    const room = maxLength - answerLength;
    if (sequence.tokens.length <= room) return sequence;
    return { tokens: sequence.tokens.slice(-room), trained: sequence.trained.slice(-room) };
  },
});

/** Reads a validated file into memory, in the order of its examples. Such files are small: OpenAI allows at most 50,000 lines. */
export async function readPromptLines(file: string): Promise<PromptLine[]> {
  const lines: PromptLine[] = [];
  for await (const line of readLines(createReadStream(file)))
    if ('text' in line) lines.push(JSON.parse(line.text));
  return lines;
}
