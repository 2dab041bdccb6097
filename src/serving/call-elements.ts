// Streaming parser for calls with arguments as elements (`<parameter=city>\nParis\n</parameter>`): converts them to a JSON object by
// the tool's schema. Strings are raw text, other values JSON or Python constants, as templates print them.
import { argumentTypes, type JsonType, jsonTypeOf } from './argument-types.ts';
import { heldLength } from './stop.ts';
import type { ObjectReader } from './tool-calls.ts';
import type { ArgumentElements } from './tool-forms.ts';

/** Constants as Jinja prints them. */
const PYTHON_WORDS: Readonly<Record<string, string>> = { True: 'true', False: 'false', None: 'null' };

/** The argument being read. */
interface Argument {
  readonly types: ReadonlySet<JsonType>;
  /** Only a string is allowed, so it can be streamed; other values are emitted when complete. */
  readonly isText: boolean;
  /** The newline before the value has been skipped. */
  begun: boolean;
}

/** `schemaOf`: parameters schema of a tool, by name. */
export function createElementReader(
  elements: ArgumentElements,
  schemaOf: (name: string) => unknown,
): ObjectReader {
  const close = elements.close.trim();
  let position = elements.call.length;
  let name: string | null = null;
  let count = 0;
  let argument: Argument | null = null;
  let length: number | null = null;

  /** Text up to `mark`, which is consumed; null if it has not arrived. */
  const upTo = (text: string, mark: string): string | null => {
    const index = text.indexOf(mark, position);
    if (index < 0) return null;
    const before = text.slice(position, index);
    position = index + mark.length;
    return before;
  };
  const begin = (key: string): string => {
    const types = argumentTypes(schemaOf(name!), key);
    argument = { types, isText: types.size === 1 && types.has('string'), begun: false };
    count += 1;
    return `${count > 1 ? ', ' : '{'}${JSON.stringify(key)}: ${argument.isText ? '"' : ''}`;
  };
  /** Null: needs more text. */
  const readBetween = (text: string): string | null => {
    const next = text.indexOf(elements.open, position);
    const end = text.indexOf(elements.callEnd, position);
    if (end >= 0 && (next < 0 || end < next)) {
      position = end + elements.callEnd.length;
      length = position;
      return count > 0 ? '}' : '{}';
    }
    if (next < 0) return null;
    const from = position;
    position = next + elements.open.length;
    const key = upTo(text, elements.separator.trim());
    if (key !== null) return begin(key);
    position = from;
    return null;
  };
  const readValue = (text: string, { types, isText }: Argument): string | null => {
    if (!skipNewLine(text)) return null;
    const whole = upTo(text, close);
    if (whole !== null) {
      argument = null;
      const value = whole.endsWith('\n') ? whole.slice(0, -1) : whole;
      return isText ? `${escaped(value)}"` : jsonOf(value, types);
    }
    if (!isText) return null;
    const sure = text.length - heldLength(text, [`\n${close}`, close]);
    if (sure <= position) return null;
    const piece = text.slice(position, sure);
    position = sure;
    return escaped(piece);
  };
  const skipNewLine = (text: string): boolean => {
    if (position === text.length) return argument!.begun;
    if (!argument!.begun && text[position] === '\n') position += 1;
    argument!.begun = true;
    return true;
  };
  return {
    told: false,
    get hasArguments() {
      return count > 0 || length !== null;
    },
    read(text) {
      name ??= upTo(text, '>')?.trim() ?? null;
      let fresh = '';
      while (name !== null && length === null) {
        const piece = argument ? readValue(text, argument) : readBetween(text);
        if (piece === null) break;
        fresh += piece;
      }
      return { name, fresh, length };
    },
  };
}

const escaped = (text: string): string => JSON.stringify(text).slice(1, -1);

/** As JSON. A value of none of the allowed types becomes a string even if the schema does not allow one, so that nothing is lost. */
function jsonOf(text: string, types: ReadonlySet<JsonType>): string {
  const word = PYTHON_WORDS[text.trim()] ?? text.trim();
  const type = parsedType(word);
  return type !== null && type !== 'string' && types.has(type) ? word : JSON.stringify(text);
}

/** Null if it is not JSON. */
function parsedType(text: string): JsonType | null {
  try {
    return jsonTypeOf(JSON.parse(text));
  } catch {
    return null;
  }
}
