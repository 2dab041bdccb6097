// Examples of direct preference optimization, in OpenAI's format: a conversation with a preferred and a rejected answer -> two sequences
// with the same prompt, in which only the answers are trained.
import type { Message, Tool, TrainingLine } from './conversation.ts';
import { countTrained, type ExampleForm } from './example-form.ts';
import { makeSequences, referenceText } from './examples.ts';

export interface PreferenceLine {
  input: { messages: Message[]; tools?: Tool[] | null; parallel_tool_calls?: boolean | null };
  /** A single assistant message each. */
  preferred_output: [Message];
  non_preferred_output: [Message];
}

/** The conversation with one of its answers, as a chat line that trains only that answer. */
function withAnswer({ input }: PreferenceLine, answer: Message): TrainingLine {
  const before = input.messages.map(message =>
    message.role === 'assistant' ? { ...message, weight: 0 as const } : message,
  );
  return { messages: [...before, answer], tools: input.tools };
}

/** The line as supervised data. */
export const preferredLine = (line: PreferenceLine): TrainingLine =>
  withAnswer(line, line.preferred_output[0]);

/** Sequences: preferred answer, rejected answer. */
export const preferenceForm: ExampleForm = {
  identity: 'preference',
  sequences: 2,
  values: 0,
  generates: true,
  compares: true,
  examples(given, tokenizer) {
    const line = given as PreferenceLine;
    const [preferred] = makeSequences(preferredLine(line), tokenizer);
    const [other] = makeSequences(withAnswer(line, line.non_preferred_output[0]), tokenizer);
    return [{ sequences: [preferred!, other!], values: [] }];
  },
  teaches: ({ sequences }) => sequences.every(sequence => countTrained(sequence) > 0),
  answer: line => referenceText(preferredLine(line as PreferenceLine)),
};
