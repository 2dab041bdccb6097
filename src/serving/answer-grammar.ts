// Grammars for constrained decoding (JSON, JSON Schema, tool calls) over the tokens of one model. Does not sample or parse.
import type { Tokenizer } from '../data/tokenizer.ts';
import { ApiError } from '../errors.ts';
import { createTokenGrammar, type TokenGrammar } from './constraint/constraint.ts';
import { elementsLanguage } from './constraint/elements.ts';
import { type JsonLanguage, jsonLanguage } from './constraint/json.ts';
import {
  type Automaton,
  createLanguage,
  DEAD,
  type Expression,
  LanguageTooLarge,
} from './constraint/language.ts';
import { SchemaError, schemaLanguage } from './constraint/schema.ts';
import { createVocabulary, type Vocabulary } from './constraint/vocabulary.ts';
import { CONTROL_TEXTS, findToolForm, type ToolForm } from './tool-forms.ts';

/** A schema to enforce; `param` names it in errors. */
export interface HeldSchema {
  schema: unknown;
  /** Enforce all of it; otherwise as much as possible. */
  strict: boolean;
  param: string;
}

export interface CallableTool {
  name: string;
  parameters: HeldSchema;
}

export interface AnswerForm {
  /** The text of the answer is a value of this schema. */
  json: HeldSchema | null;
  calls: {
    tools: CallableTool[];
    /** Only calls, at least one. */
    required: boolean;
    /** More than one call is allowed. */
    parallel: boolean;
  } | null;
}

export interface AnswerGrammars {
  /** How the model writes tool calls; null: it has none, or in an unknown format. */
  readonly toolForm: ToolForm | null;
  /** Control tokens of tool calls. */
  readonly marks: ReadonlySet<number>;
  /** Null if any text is allowed. Throws ApiError for a schema that cannot be enforced. */
  grammarOf(form: AnswerForm): TokenGrammar | null;
}

/** Cached grammars: applications send the same schemas again. */
const MAX_GRAMMARS = 8;
/** Expressions of a cached grammar: about 30 MB. */
const MAX_KEPT_SIZE = 50_000;

export function openAnswerGrammars(tokenizer: Tokenizer): AnswerGrammars {
  const toolForm = findToolForm(tokenizer.chatTemplates);
  const marks = markSymbols(tokenizer);
  const byToken = new Map([...marks.values()].map(({ token, symbol }) => [token, symbol]));
  let vocabulary: Vocabulary | null = null; // created lazily: slow, and most requests need none
  const known = new Map<string, TokenGrammar>();
  const build = (form: AnswerForm): TokenGrammar => {
    vocabulary ??= createVocabulary(tokenizer, byToken);
    return createTokenGrammar(vocabulary, automatonOf(form, marks, toolForm));
  };
  return {
    toolForm,
    marks: new Set(byToken.keys()),
    grammarOf(form) {
      if (isFree(form)) return null;
      const key = JSON.stringify(form);
      const kept = known.get(key);
      const grammar = kept && kept.automaton.size < MAX_KEPT_SIZE ? kept : explained(form, () => build(form));
      known.delete(key);
      known.set(key, grammar);
      if (known.size > MAX_GRAMMARS) known.delete(known.keys().next().value!);
      return grammar;
    },
  };
}

/** Throws ApiError for a schema that cannot be enforced with any model. */
export function checkSchema(json: HeldSchema): void {
  const form: AnswerForm = { json, calls: null };
  explained(form, () => automatonOf(form, new Map(), null));
}

function automatonOf(form: AnswerForm, marks: MarkTable, toolForm: ToolForm | null): Automaton {
  const language = createLanguage();
  const writer = { json: jsonLanguage(language), marks, toolForm };
  const automaton = language.automaton(answerLanguage(writer, form));
  if (automaton.start === DEAD) throw unsatisfiable(form);
  return automaton;
}

const isFree = ({ json, calls }: AnswerForm): boolean =>
  json === null && !calls?.required && !calls?.tools.some(tool => tool.parameters.strict);

type MarkTable = ReadonlyMap<string, { token: number; symbol: number }>;

function markSymbols(tokenizer: Tokenizer): MarkTable {
  const found = CONTROL_TEXTS.map(text => ({ text, token: tokenizer.addedToken(text) }));
  return new Map(
    found.flatMap(({ text, token }, i) => (token === null ? [] : [[text, { token, symbol: 256 + i }]])),
  );
}

// ---- errors

/** Parameter of the form's first schema, for errors. */
export const schemaParam = (form: AnswerForm | null): string =>
  form?.json?.param ?? form?.calls?.tools[0]?.parameters.param ?? 'tools';

function unsatisfiable(form: AnswerForm): ApiError {
  const param = schemaParam(form);
  return new ApiError('invalid_value', `Invalid schema for '${param}': there is no value that it allows.`, {
    param,
  });
}

function explained<Result>(form: AnswerForm, build: () => Result): Result {
  try {
    return build();
  } catch (cause) {
    if (!(cause instanceof LanguageTooLarge)) throw cause;
    const param = schemaParam(form);
    throw new ApiError('invalid_value', `Invalid schema for '${param}': it is too large to be enforced.`, {
      param,
      cause,
    });
  }
}

function held(
  json: JsonLanguage,
  { schema, strict, param }: HeldSchema,
  languageOf: () => Expression = () => schemaLanguage(json, schema, strict),
): Expression {
  try {
    return languageOf();
  } catch (cause) {
    if (!(cause instanceof SchemaError)) throw cause;
    const place = cause.path ? `${param}.${cause.path}` : param;
    throw new ApiError('invalid_value', `Invalid schema for '${param}': '${place}': ${cause.message}.`, {
      param: place,
      cause,
    });
  }
}

// ---- languages

interface Writer {
  json: JsonLanguage;
  marks: MarkTable;
  toolForm: ToolForm | null;
}

const ANY_BYTES = [[0, 255]] as const;

/** Allows a leading space, which some tokenizers put before the first word. */
function answerLanguage(writer: Writer, { json, calls }: AnswerForm): Expression {
  const { language, text } = writer.json;
  const words = json === null ? null : held(writer.json, json);
  const form = writer.toolForm;
  const written = calls && form ? callsLanguage(writer, form, calls) : null;
  const space = language.either(language.empty, text(' '));
  if (!written) return language.sequence(space, words ?? language.nothing);
  if (calls!.required) return language.sequence(space, written);
  if (words) return language.sequence(space, language.either(words, written));
  const free = freeWords(writer, form!);
  return language.either(free, language.sequence(form!.trigger === null ? space : free, written));
}

/** Text in which no call begins. */
function freeWords({ json: { language, text }, marks }: Writer, { trigger }: ToolForm): Expression {
  const any = language.repeat(language.symbols(ANY_BYTES), 0, Number.POSITIVE_INFINITY);
  if (trigger === null) {
    const white = language.repeat(
      language.symbols([
        [9, 10],
        [13, 13],
        [32, 32],
      ]),
      0,
      Number.POSITIVE_INFINITY,
    );
    return language.both(any, language.not(language.sequence(white, text('{'), any)));
  }
  return marks.has(trigger)
    ? any
    : language.both(any, language.not(language.sequence(any, text(trigger), any)));
}

function callsLanguage(
  writer: Writer,
  form: ToolForm,
  { tools, parallel }: NonNullable<AnswerForm['calls']>,
): Expression {
  const { language } = writer.json;
  const fixed = (text: string): Expression => withMarks(writer, text);
  const call = language.either(...tools.map(tool => callLanguage(writer, form, tool)));
  const more = language.repeat(
    language.sequence(fixed(form.between), call),
    0,
    parallel ? Number.POSITIVE_INFINITY : 0,
  );
  return language.sequence(fixed(form.start), call, more, fixed(form.end));
}

function callLanguage(writer: Writer, form: ToolForm, { name, parameters }: CallableTool): Expression {
  const { language, text, literal, quoted, digit } = writer.json;
  const fixed = (written: string): Expression => withMarks(writer, written);
  const values = argumentsLanguage(writer, form, parameters);
  if (form.keys === null)
    return language.sequence(fixed(form.open), text(name), fixed(form.separator), values, fixed(form.close));
  const numbered = form.numberKey
    ? language.sequence(literal(form.numberKey), text(': '), quoted(language.repeat(digit, 1, 3)), text(', '))
    : language.empty;
  return language.sequence(
    fixed(form.open),
    text('{'),
    numbered,
    literal(form.keys.name),
    text(': '),
    literal(name),
    text(', '),
    literal(form.keys.arguments),
    text(': '),
    values,
    text('}'),
    fixed(form.close),
  );
}

/** Arguments are always an object, even if a loose schema allows other types. */
function argumentsLanguage(writer: Writer, { elements }: ToolForm, parameters: HeldSchema): Expression {
  const { json } = writer;
  const { schema, strict, param } = parameters;
  const nothing = schema === null || schema === undefined;
  if (nothing) return elements ? json.language.empty : json.members([], null);
  const isObject = (schema as { type?: unknown }).type === 'object';
  if (elements && (isObject || !strict))
    return held(json, parameters, () =>
      elementsLanguage(json, elements, parameters, text => withMarks(writer, text)),
    );
  if (isObject) return held(json, parameters);
  if (strict)
    throw new ApiError('invalid_value', `Invalid schema for '${param}': its type must be 'object'.`, {
      param,
    });
  return json.object;
}

/** A fixed text of the format; control tokens in it are matched as single symbols. */
function withMarks(writer: Writer, written: string): Expression {
  const { language, text } = writer.json;
  const mark = [...writer.marks.keys()].find(each => written.includes(each));
  if (mark === undefined) return text(written);
  const { symbol } = writer.marks.get(mark)!;
  const at = written.indexOf(mark);
  return language.sequence(
    withMarks(writer, written.slice(0, at)),
    language.symbols([[symbol, symbol]]),
    withMarks(writer, written.slice(at + mark.length)),
  );
}
