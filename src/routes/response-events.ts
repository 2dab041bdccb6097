// Turns the events of a generation into those of the Responses API, and builds the response from them. No route.
import { newId } from '../ids.ts';
import { chatLogprobsToWire } from '../schemas/chat-completions.ts';
import { unixSeconds } from '../schemas/lists.ts';
import { responseUsageToWire, type WireResponse } from '../schemas/responses.ts';
import type { GenerationEvent, TokenPiece } from '../serving/protocol.ts';

export interface ResponseEvent extends Record<string, unknown> {
  type: string;
  sequence_number: number;
}

type Unnumbered = { type: string } & Record<string, unknown>;

/**
 * Updates `response` with each event. Throws if the generation fails before its first event; a later failure becomes the response's
 * error.
 */
export async function* toResponseEvents(
  events: AsyncIterable<GenerationEvent>,
  response: WireResponse,
): AsyncGenerator<ResponseEvent> {
  let sequence = 0;
  const numbered = function* (of: Iterable<Unnumbered>): Generator<ResponseEvent> {
    for (const event of of) yield { ...event, sequence_number: sequence++ };
  };
  const at: Writing = { response, open: null };
  try {
    for await (const event of events) yield* numbered(write(at, event));
  } catch (error) {
    if (sequence === 0) throw error;
    markFailed(response);
    yield* numbered([{ type: 'response.failed', response: snapshot(response) }]);
  }
}

const snapshot = (response: WireResponse): WireResponse => structuredClone(response);

export function markFailed(response: WireResponse): void {
  response.status = 'failed';
  response.error = {
    code: 'server_error',
    message: 'The server had an error while processing your request.',
  };
}

/** A response in progress. */
interface Writing {
  readonly response: WireResponse;
  open: OpenItem | null;
}

type EventOf<Type> = Extract<GenerationEvent, { type: Type }>;

const writers: {
  [Type in GenerationEvent['type']]: (at: Writing, event: EventOf<Type>) => Iterable<Unnumbered>;
} = {
  *started({ response }) {
    response.status = 'in_progress';
    yield { type: 'response.created', response: snapshot(response) };
    yield { type: 'response.in_progress', response: snapshot(response) };
  },
  *piece(at, { text, tokens }) {
    if (text === '' && tokens.length === 0) return;
    if (at.open?.kind !== 'message') yield* beginItem(at, messageItem());
    yield* at.open!.add(text, tokens, placeOf(at));
  },
  *call(at, { id, name, arguments: text }) {
    if (id !== null && name !== null) yield* beginItem(at, callItem(id, name));
    yield* at.open!.add(text, [], placeOf(at));
  },
  *finished(at, { finishReason }) {
    const { response } = at;
    const status = finishReason === 'length' ? 'incomplete' : 'completed';
    if (response.output.length === 0) yield* beginItem(at, messageItem());
    yield* endItem(at, status);
    response.status = status;
    response.incomplete_details = status === 'incomplete' ? { reason: 'max_output_tokens' } : null;
  },
  *done({ response }, event) {
    response.usage = responseUsageToWire(event);
    if (response.status === 'completed') response.completed_at = unixSeconds(new Date());
    yield { type: `response.${response.status}`, response: snapshot(response) };
  },
};

const write = <Type extends GenerationEvent['type']>(
  at: Writing,
  event: EventOf<Type>,
): Iterable<Unnumbered> => writers[event.type as Type](at, event);

const placeOf = ({ response, open }: Writing): Place => ({
  item_id: open!.item.id,
  output_index: response.output.length - 1,
});

function* beginItem(at: Writing, begun: OpenItem): Generator<Unnumbered> {
  yield* endItem(at, 'completed');
  at.open = begun;
  at.response.output.push(begun.item);
  const { output_index } = placeOf(at);
  yield { type: 'response.output_item.added', output_index, item: structuredClone(begun.item) };
  yield* begun.begin(placeOf(at));
}

function* endItem(at: Writing, status: 'completed' | 'incomplete'): Generator<Unnumbered> {
  const { open } = at;
  if (!open) return;
  open.item.status = status;
  yield* open.end(placeOf(at));
  const { output_index } = placeOf(at);
  yield { type: 'response.output_item.done', output_index, item: structuredClone(open.item) };
  at.open = null;
}

interface Place {
  item_id: unknown;
  output_index: number;
}

/** An output item in progress. */
interface OpenItem {
  kind: 'message' | 'call';
  item: Record<string, unknown>;
  begin(place: Place): Iterable<Unnumbered>;
  add(text: string, tokens: TokenPiece[], place: Place): Iterable<Unnumbered>;
  end(place: Place): Iterable<Unnumbered>;
}

function messageItem(): OpenItem {
  const part = { type: 'output_text', text: '', annotations: [], logprobs: [] as object[] };
  const content: object[] = [];
  const item = { id: newId('message'), type: 'message', role: 'assistant', status: 'in_progress', content };
  const inPart = (place: Place) => ({ ...place, content_index: 0 });
  return {
    kind: 'message',
    item,
    *begin(place) {
      content.push(part);
      yield { type: 'response.content_part.added', ...inPart(place), part: structuredClone(part) };
    },
    *add(text, tokens, place) {
      const logprobs = chatLogprobsToWire(true, tokens)!.content;
      part.text += text;
      part.logprobs.push(...logprobs);
      if (text !== '') yield { type: 'response.output_text.delta', ...inPart(place), delta: text, logprobs };
    },
    *end(place) {
      const { text, logprobs } = part;
      yield { type: 'response.output_text.done', ...inPart(place), text, logprobs: [...logprobs] };
      yield { type: 'response.content_part.done', ...inPart(place), part: structuredClone(part) };
    },
  };
}

function callItem(callId: string, name: string): OpenItem {
  const item = {
    id: newId('functionCall'),
    type: 'function_call',
    call_id: callId,
    name,
    arguments: '',
    status: 'in_progress',
  };
  return {
    kind: 'call',
    item,
    begin: () => [],
    *add(delta, _tokens, place) {
      item.arguments += delta;
      if (delta !== '') yield { type: 'response.function_call_arguments.delta', ...place, delta };
    },
    *end(place) {
      yield { type: 'response.function_call_arguments.done', ...place, name, arguments: item.arguments };
    },
  };
}
