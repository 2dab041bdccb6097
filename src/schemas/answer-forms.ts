// Requirements on the form of an answer: tools, tool choice and response formats, from the request to what the generation process is
// sent. Chat completions nest the fields of a function, the Responses API does not; both are read into the same structure.
import { type Static, Type } from 'typebox';
import type { Tool } from '../data/conversation.ts';
import { ApiError } from '../errors.ts';
import type { AnswerForm, CallableTool, HeldSchema } from '../serving/answer-grammar.ts';
import { Choice } from './choice.ts';
import { Nullable } from './generation.ts';

const NAME = '^[a-zA-Z0-9_-]{1,64}$';
const JsonSchema = Type.Unsafe<Record<string, unknown>>({
  type: 'object',
  additionalProperties: true,
  description: 'JSON Schema that constrains the answer; with `strict`, only keywords listed in docs/api.md.',
});
const strict = Nullable(
  Type.Boolean(),
  '`true`: refuse a schema that cannot be fully enforced; otherwise it is enforced as far as possible.',
);

export const functionFields = {
  name: Type.String({ pattern: NAME }),
  description: Nullable(Type.String()),
  parameters: Nullable(JsonSchema, 'JSON Schema of an object; default: no parameters.'),
  strict,
};

export const FunctionTool = Type.Object(
  {
    type: Type.String({ description: 'Only `function` is supported.' }),
    function: Type.Optional(Type.Object(functionFields)),
    custom: Type.Optional(Type.Unknown()),
  },
  { $id: 'ChatCompletionTool', description: 'A function the model may call.' },
);

export const schemaFields = {
  name: Type.String({ pattern: NAME }),
  description: Nullable(Type.String()),
  strict,
};

export const ResponseFormat = Type.Object(
  {
    type: Choice(['text', 'json_object', 'json_schema']),
    json_schema: Type.Optional(Type.Object({ ...schemaFields, schema: Nullable(JsonSchema) })),
  },
  {
    $id: 'ResponseFormat',
    description: '`json_object`: the answer is a JSON object; `json_schema`: it satisfies the schema.',
  },
);

/** `none`, `auto`, `required`, or an object that names tools. */
export const ToolChoice = Type.Union(
  [
    Choice(['none', 'auto', 'required']),
    Type.Object({
      type: Type.String({ description: '`function`, or `allowed_tools`.' }),
      name: Type.Optional(Type.String()),
      function: Type.Optional(Type.Object({ name: Type.String() })),
      allowed_tools: Type.Optional(Type.Unknown()),
      mode: Type.Optional(Type.Unknown()),
      tools: Type.Optional(Type.Unknown()),
    }),
  ],
  {
    description:
      'Whether tools are called: not, as the model decides (`auto`), one at least, this one, or some of these.',
  },
);
export type ToolChoice = Static<typeof ToolChoice>;

/** A function tool and its path in the request. */
export interface GivenFunction {
  name: string;
  description?: string | null;
  parameters?: Record<string, unknown> | null;
  strict?: boolean | null;
  /** `tools[0].function`. */
  at: string;
}

export interface AskedForm {
  /** In the form that chat templates expect; null for none. */
  tools: Tool[] | null;
  form: AnswerForm | null;
}

export interface AnswerFormRequest {
  functions: GivenFunction[];
  choice: ToolChoice | null;
  parallel: boolean;
  json: HeldSchema | null;
}

/** Throws if `tool_choice` names tools that are not in the request. */
export function readAnswerForm({ functions, choice, parallel, json }: AnswerFormRequest): AskedForm {
  checkNames(functions);
  const { mode, names } = readChoice(choice, functions);
  const chosen = functions.filter(({ name }) => names === null || names.includes(name));
  if (chosen.length === 0 || mode === 'none') return { tools: null, form: json && { json, calls: null } };
  const calls = { tools: chosen.map(toCallable), required: mode === 'required', parallel };
  return { tools: chosen.map(toTool), form: { json, calls } };
}

function checkNames(functions: readonly GivenFunction[]): void {
  const names = functions.map(({ name }) => name);
  const twice = functions.find(({ name }, i) => names.indexOf(name) < i);
  if (twice)
    throw new ApiError(
      'invalid_value',
      `Invalid '${twice.at}.name': there is another function '${twice.name}'.`,
      {
        param: `${twice.at}.name`,
      },
    );
}

interface ReadChoice {
  mode: 'none' | 'auto' | 'required';
  /** Null: all of them. */
  names: string[] | null;
}

function readChoice(choice: ToolChoice | null, functions: readonly GivenFunction[]): ReadChoice {
  if (choice === null) return { mode: 'auto', names: null };
  if (functions.length === 0 && choice !== 'none' && choice !== 'auto')
    throw new ApiError(
      'invalid_value',
      "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.",
      {
        param: 'tool_choice',
      },
    );
  if (typeof choice === 'string') return { mode: choice, names: null };
  const read = namesOf(choice);
  const missing = read.names?.find(name => !functions.some(each => each.name === name));
  if (missing === undefined) return read;
  throw new ApiError(
    'invalid_value',
    `Invalid value for 'tool_choice': there is no function '${missing}' in 'tools'.`,
    {
      param: 'tool_choice',
    },
  );
}

function namesOf(choice: Exclude<ToolChoice, string>): ReadChoice {
  if (choice.type === 'function') {
    const name = choice.function?.name ?? choice.name;
    if (name !== undefined) return { mode: 'required', names: [name] };
    throw new ApiError(
      'missing_required_parameter',
      "Missing required parameter: 'tool_choice.function.name'.",
      {
        param: 'tool_choice.function.name',
      },
    );
  }
  if (choice.type === 'allowed_tools')
    return readAllowed((choice.allowed_tools ?? choice) as Record<string, unknown>);
  throw unsupportedTool('tool_choice', choice.type);
}

function readAllowed({ mode, tools }: Record<string, unknown>): ReadChoice {
  if ((mode !== 'auto' && mode !== 'required') || !Array.isArray(tools) || tools.length === 0)
    throw new ApiError(
      'invalid_value',
      "Invalid value for 'tool_choice': 'allowed_tools' needs a 'mode' ('auto' or 'required') and 'tools'.",
      {
        param: 'tool_choice',
      },
    );
  const names = tools.map((tool: { type?: string; name?: string; function?: { name?: string } }) => {
    if (tool?.type !== 'function') throw unsupportedTool('tool_choice', String(tool?.type));
    return String(tool.function?.name ?? tool.name);
  });
  return { mode, names };
}

export const unsupportedTool = (param: string, type: string): ApiError =>
  new ApiError(
    'unsupported_value',
    `Invalid value: '${param}' is of type '${type}'. Supported are: 'function'.`,
    { param },
  );

const toTool = ({ at: _at, ...fields }: GivenFunction): Tool => {
  const { name, description, parameters, strict } = fields;
  const given = { description, parameters, ...(strict ? { strict } : {}) };
  const present = Object.entries(given).filter(([, value]) => value !== null && value !== undefined);
  return { type: 'function', function: { name, ...Object.fromEntries(present) } };
};

const toCallable = ({ name, parameters, strict, at }: GivenFunction): CallableTool => ({
  name,
  parameters: { schema: parameters ?? null, strict: strict === true, param: `${at}.parameters` },
});

interface GivenFormat {
  type: string;
  schema?: Record<string, unknown> | null;
  strict?: boolean | null;
}

/** `at`: path of the schema in the request. */
export function readJsonFormat(format: GivenFormat | null, at: string): HeldSchema | null {
  if (format === null || format.type === 'text') return null;
  if (format.type === 'json_object') return { schema: { type: 'object' }, strict: false, param: at };
  return { schema: format.schema ?? {}, strict: format.strict === true, param: at };
}
