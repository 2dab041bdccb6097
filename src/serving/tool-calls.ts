// Streaming parser for tool calls: separates an answer into text and calls with names and arguments.
// Does not constrain what is generated.
import { createElementReader } from './call-elements.ts';
import { heldLength } from './stop.ts';
import type { ToolForm } from './tool-forms.ts';

/** A part of a call. `name` comes only with the first part. */
export interface CallPart {
  index: number;
  name: string | null;
  arguments: string;
}

export interface CallReader {
  push(text: string): CallReading;
  /** Returns the held text at the end of the stream. */
  end(): CallReading;
  /** Number of complete calls. */
  readonly complete: number;
  /** Number of calls that have begun. */
  readonly calls: number;
}

export interface CallReading {
  text: string;
  parts: CallPart[];
}

/** Optional tag before a call, for models whose calls otherwise start with plain JSON. */
const PYTHON_TAG = '<|python_tag|>';

/** Parameter schemas by tool name. */
export type ToolSchemas = ReadonlyMap<string, unknown>;

/** Parser state. */
interface State {
  readonly form: ToolForm;
  readonly tools: ToolSchemas;
  /** Text that may still turn out not to be a call. */
  held: string;
  inCalls: boolean;
  /** Text has been emitted. */
  begun: boolean;
  calls: number;
  complete: number;
  object: ObjectReader | null;
}

/** An object that names none of the tools is text. */
export function createCallReader(form: ToolForm, tools: ToolSchemas): CallReader {
  const state: State = {
    form,
    tools,
    held: '',
    inCalls: false,
    begun: false,
    calls: 0,
    complete: 0,
    object: null,
  };
  return {
    get complete() {
      return state.complete;
    },
    get calls() {
      return state.calls;
    },
    push(text) {
      const reading: CallReading = { text: '', parts: [] };
      state.held += text;
      if (!state.inCalls) readWords(state, reading);
      if (!state.inCalls) return reading;
      for (let next = nextObject(state); next && readObject(state, next, reading); next = nextObject(state));
      return reading;
    },
    end() {
      const reading: CallReading = { text: '', parts: [] };
      giveUp(state, reading);
      return reading;
    },
  };
}

function say(state: State, reading: CallReading, length: number): void {
  if (length > 0) state.begun = true;
  reading.text += state.held.slice(0, length);
  state.held = state.held.slice(length);
}

/** Emits text up to the first call, as far as that is certain. */
function readWords(state: State, reading: CallReading): void {
  const { found, index } = findCalls(state.held, state.form, state.begun);
  say(state, reading, found ? state.held.slice(0, index).trimEnd().length : index);
  state.inCalls = found;
}

/** The object being read, or the next one in the held text. */
function nextObject(state: State): ObjectReader | null {
  const { form, held, tools } = state;
  const start = held.indexOf(startOf(form));
  if (state.object || start < 0) return state.object;
  state.object = form.elements
    ? createElementReader(form.elements, name => tools.get(name))
    : createObjectReader(form, form.keys ? null : nameBefore(held.slice(0, start), form));
  return state.object;
}

/** Text at which a call's reader starts. */
const startOf = ({ elements }: ToolForm): string => elements?.call ?? '{';

/** What turns out not to be a call is emitted as text, unless a call came before it. */
function giveUp(state: State, reading: CallReading): void {
  if (state.calls === 0) say(state, reading, state.held.length);
  Object.assign(state, { held: '', object: null, inCalls: state.calls > 0 });
}

/** Reads on in one object; true when it has ended and another may follow. */
function readObject(state: State, reader: ObjectReader, reading: CallReading): boolean {
  const text = state.held.slice(state.held.indexOf(startOf(state.form)));
  const { name, fresh, length } = reader.read(text);
  const isCall = name !== null && state.tools.has(name);
  if (length !== null && !isCall && state.calls === 0) {
    giveUp(state, reading);
    return false;
  }
  if (isCall && !reader.told && (reader.hasArguments || length !== null)) {
    reader.told = true;
    state.calls += 1;
    reading.parts.push({ index: state.calls - 1, name, arguments: reader.hasArguments ? fresh : '{}' });
  } else if (reader.told && fresh !== '') {
    reading.parts.push({ index: state.calls - 1, name: null, arguments: fresh });
  }
  if (length === null) return false;
  if (reader.told) state.complete += 1;
  state.held = text.slice(length);
  state.object = null;
  return true;
}

/** Index of the first call, or length of the certain text. */
function findCalls(text: string, { trigger }: ToolForm, begun: boolean): { found: boolean; index: number } {
  if (trigger === null) {
    const start = text.trimStart();
    const index = text.length - start.length;
    if (begun) return { found: false, index: text.length };
    if (start.startsWith('{') || start.startsWith(PYTHON_TAG)) return { found: true, index };
    return { found: false, index: PYTHON_TAG.startsWith(start) ? 0 : text.length };
  }
  const index = text.indexOf(trigger);
  if (index >= 0) return { found: true, index };
  const certain = text.length - heldLength(text, [trigger]);
  // Whitespace before a call is part of the format, not of the answer.
  return { found: false, index: text.slice(0, certain).trimEnd().length };
}

/** `[TOOL_CALLS]get_weather[ARGS]` -> get_weather */
function nameBefore(text: string, { open, separator }: ToolForm): string {
  const start = text.lastIndexOf(open) + open.length;
  const end = text.lastIndexOf(separator.trimEnd());
  return text.slice(start, end < start ? undefined : end).trim();
}

export interface ObjectReader {
  /** Whether the call has been reported. */
  told: boolean;
  readonly hasArguments: boolean;
  /** `text`: the call so far, from its brace or first element. `fresh`: new arguments; `length`: of the object, once complete. */
  read(text: string): { name: string | null; fresh: string; length: number | null };
}

/** Reads one JSON object incrementally, character by character. */
function createObjectReader({ keys }: ToolForm, givenName: string | null): ObjectReader {
  let position = 0;
  let depth = 0;
  let quote = -1; // start of the string that contains the position
  let escaped = false;
  let key: string | null = null;
  let awaitsKey = true;
  let name = givenName;
  let from = -1;
  let to = -1;
  let given = -1; // end of the arguments returned so far
  let written: string | null = null; // arguments given as a string that holds JSON

  const endString = (value: string): void => {
    if (depth !== 1 || keys === null) return;
    if (awaitsKey) key = value;
    else if (key === keys.name) name = value;
    else if (key === keys.arguments) written = value;
  };
  const open = (): void => {
    depth += 1;
    const isArguments = keys === null ? depth === 1 : depth === 2 && key === keys.arguments && !awaitsKey;
    if (isArguments && from < 0) from = position;
  };
  const close = (): void => {
    depth -= 1;
    if (from >= 0 && to < 0 && depth === (keys === null ? 0 : 1)) to = position + 1;
  };
  const step = (text: string): void => {
    const character = text[position]!;
    if (quote >= 0) {
      if (escaped) escaped = false;
      else if (character === '\\') escaped = true;
      else if (character === '"') {
        endString(parseString(text.slice(quote, position + 1)));
        quote = -1;
      }
    } else if (character === '"') quote = position;
    else if (character === '{' || character === '[') open();
    else if (character === '}' || character === ']') close();
    else if (depth === 1 && character === ':') awaitsKey = false;
    else if (depth === 1 && character === ',') awaitsKey = true;
  };
  return {
    told: false,
    get hasArguments() {
      return from >= 0 || written !== null;
    },
    read(text) {
      let length: number | null = null;
      for (; position < text.length && length === null; position++) {
        step(text);
        if (depth === 0) length = position + 1;
      }
      if (written !== null) {
        const fresh = given < 0 ? written : '';
        given = 0;
        return { name, fresh, length };
      }
      if (from < 0 || name === null) return { name, fresh: '', length };
      const start = Math.max(given, from);
      const end = to < 0 ? position : to;
      given = Math.max(start, end);
      return { name, fresh: text.slice(start, end), length };
    },
  };
}

function parseString(text: string): string {
  try {
    return JSON.parse(text);
  } catch {
    return text.slice(1, -1);
  }
}
