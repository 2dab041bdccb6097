// Collects the events of a generation into an answer. No route.
import type { Usage } from '../schemas/generation.ts';
import type { FinishReason, GenerationEvent, TokenPiece } from '../serving/protocol.ts';
import { asEnded } from './generation.ts';

export interface AnsweredCall {
  id: string;
  name: string;
  arguments: string;
}

export interface AnsweredChoice {
  text: string;
  tokens: TokenPiece[];
  calls: AnsweredCall[];
  finishReason: FinishReason;
}

export interface Answer {
  choices: AnsweredChoice[];
  usage: Usage;
}

export function emptyAnswer(choices: number): Answer {
  return {
    choices: Array.from({ length: choices }, () => ({
      text: '',
      tokens: [],
      calls: [],
      finishReason: 'stop',
    })),
    usage: { promptTokens: 0, completionTokens: 0 },
  };
}

/** The usage of several generations in one answer is added up. */
export function addToAnswer({ choices, usage }: Answer, event: GenerationEvent): void {
  if (event.type === 'piece') {
    choices[event.choice]!.text += event.text;
    choices[event.choice]!.tokens.push(...event.tokens);
  } else if (event.type === 'call') addCall(choices[event.choice]!, event);
  else if (event.type === 'finished') choices[event.choice]!.finishReason = event.finishReason;
  else if (event.type === 'done') {
    usage.promptTokens += event.promptTokens;
    usage.completionTokens += event.completionTokens;
  }
}

function addCall({ calls }: AnsweredChoice, event: Extract<GenerationEvent, { type: 'call' }>): void {
  const { id, name, arguments: text } = event;
  if (id !== null && name !== null) calls.push({ id, name, arguments: text });
  else calls[event.index]!.arguments += text;
}

/** Passes events on and collects them in `answer`. */
export async function* gather(
  events: AsyncIterable<GenerationEvent>,
  answer: Answer,
): AsyncGenerator<GenerationEvent, void> {
  for await (const event of events) {
    addToAnswer(answer, event);
    yield event;
  }
}

/** Throws the error that the request is answered with. */
export async function answerOf(
  events: AsyncIterable<GenerationEvent>,
  choices: number,
  signal: AbortSignal,
): Promise<Answer> {
  const answer = emptyAnswer(choices);
  try {
    for await (const event of events) addToAnswer(answer, event);
  } catch (error) {
    throw asEnded(error, signal);
  }
  return answer;
}
