// The events of a generation as those of the Responses API, and the response that they build. No route of its own.
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
 * Changes `response` as it goes, up to its end. Throws where the generation fails before it has started; what fails later is
 * the response's failure.
 */
export async function* toResponseEvents(
  events: AsyncIterable<GenerationEvent>,
  response: WireResponse,
): AsyncGenerator<ResponseEvent> {
  let sequence = 0;
  const numbered = function* (of: Iterable<Unnumbered>): Generator<ResponseEvent> {
    for (const event of of) yield { ...event, sequence_number: sequence++ };
  };
  const writer = createWriter(response);
  try {
    for await (const event of events) yield* numbered(writer.take(event));
  } catch (error) {
    if (sequence === 0) throw error;
    yield* numbered(fail(response));
  }
}

const snapshot = (response: WireResponse): WireResponse => structuredClone(response);

export function* fail(response: WireResponse): Generator<Unnumbered> {
  response.status = 'failed';
  response.error = {
    code: 'server_error',
    message: 'The server had an error while processing your request.',
  };
  yield { type: 'response.failed', response: snapshot(response) };
}

interface Writer {
  take(event: GenerationEvent): Generator<Unnumbered>;
}

function createWriter(response: WireResponse): Writer {
  let open: OpenItem | null = null;
  const outputIndex = (): number => response.output.length - 1;

  function* close(status: 'completed' | 'incomplete'): Generator<Unnumbered> {
    if (!open) return;
    open.item.status = status;
    const place = { item_id: open.item.id, output_index: outputIndex() };
    yield* open.end(place);
    yield {
      type: 'response.output_item.done',
      output_index: outputIndex(),
      item: structuredClone(open.item),
    };
    open = null;
  }
  function* begin(item: OpenItem): Generator<Unnumbered> {
    yield* close('completed');
    open = item;
    response.output.push(item.item);
    yield {
      type: 'response.output_item.added',
      output_index: outputIndex(),
      item: structuredClone(item.item),
    };
    yield* item.begin({ item_id: item.item.id, output_index: outputIndex() });
  }
  function* say(text: string, tokens: TokenPiece[]): Generator<Unnumbered> {
    if (open?.kind !== 'message') yield* begin(messageItem());
    yield* open!.add(text, tokens, { item_id: open!.item.id, output_index: outputIndex() });
  }
  return {
    *take(event) {
      if (event.type === 'started') {
        response.status = 'in_progress';
        yield { type: 'response.created', response: snapshot(response) };
        yield { type: 'response.in_progress', response: snapshot(response) };
      } else if (event.type === 'piece') {
        if (event.text !== '' || event.tokens.length > 0) yield* say(event.text, event.tokens);
      } else if (event.type === 'call') {
        const { id, name, arguments: text } = event;
        if (id !== null && name !== null) yield* begin(callItem(id, name));
        yield* open!.add(text, [], { item_id: open!.item.id, output_index: outputIndex() });
      } else if (event.type === 'finished') {
        const cut = event.finishReason === 'length';
        if (response.output.length === 0) yield* say('', []);
        yield* close(cut ? 'incomplete' : 'completed');
        response.status = cut ? 'incomplete' : 'completed';
        response.incomplete_details = cut ? { reason: 'max_output_tokens' } : null;
      } else {
        response.usage = responseUsageToWire(event);
        if (response.status === 'completed') response.completed_at = unixSeconds(new Date());
        yield { type: `response.${response.status}`, response: snapshot(response) };
      }
    },
  };
}

interface Place {
  item_id: unknown;
  output_index: number;
}

/** An item that is being written. */
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
