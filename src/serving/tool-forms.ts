// Tool call formats of known model families, a table; recognized by the chat template.
// tool-calls.ts parses calls, answer-grammar.ts constrains them.

/** Calls are `start call between call end`, a call is `open {"name": ..., "arguments": {...}} close`. */
export interface ToolForm {
  readonly family: string;
  /** Matches only templates of this family. */
  readonly template: RegExp;
  /** Text that starts calls anywhere in an answer; null: an answer that starts with `{` is a call. */
  readonly trigger: string | null;
  readonly start: string;
  readonly open: string;
  readonly close: string;
  readonly between: string;
  readonly end: string;
  /** Keys of a call's object; null: the name precedes `separator` and the arguments. */
  readonly keys: { name: string; arguments: string } | null;
  readonly separator: string;
  /** Format of arguments written as elements; null: they are a JSON object. */
  readonly elements: ArgumentElements | null;
  /** Key before the name, with the call's number. */
  readonly numberKey: string | null;
  /** Id length that the template requires; null: any. */
  readonly idLength: number | null;
}

/** `<function=weather>` and so on: `open` name `separator` value `close`, all of them within `call` ... `callEnd`. */
export interface ArgumentElements {
  readonly call: string;
  readonly open: string;
  readonly separator: string;
  readonly close: string;
  readonly callEnd: string;
}

const NAME_ARGUMENTS = { name: 'name', arguments: 'arguments' };
const TOOL_NAME_PARAMETERS = { name: 'tool_name', arguments: 'parameters' };

const plain = {
  start: '',
  open: '',
  close: '',
  between: '',
  end: '',
  separator: '',
  elements: null,
  numberKey: null,
  idLength: null,
};

/** In order of precedence: the first match wins. */
const forms: readonly ToolForm[] = [
  {
    ...plain,
    family: 'deepseek',
    template: /<｜tool▁calls▁begin｜>/,
    trigger: '<｜tool▁calls▁begin｜>',
    start: '<｜tool▁calls▁begin｜>',
    open: '<｜tool▁call▁begin｜>function<｜tool▁sep｜>',
    separator: '\n```json\n',
    close: '\n```<｜tool▁call▁end｜>',
    between: '\n',
    end: '<｜tool▁calls▁end｜>',
    keys: null,
  },
  {
    ...plain,
    family: 'command-r7b',
    template: /<\|START_ACTION\|>/,
    trigger: '<|START_ACTION|>',
    start: '<|START_ACTION|>[\n    ',
    between: ',\n    ',
    end: '\n]<|END_ACTION|>',
    keys: TOOL_NAME_PARAMETERS,
    numberKey: 'tool_call_id',
  },
  {
    ...plain,
    family: 'command-r',
    template: /Action:\s*```json/,
    trigger: 'Action:',
    start: 'Action: ```json\n[\n    ',
    between: ',\n    ',
    end: '\n]```',
    keys: TOOL_NAME_PARAMETERS,
  },
  {
    ...plain,
    family: 'mistral-args',
    template: /\[TOOL_CALLS\][\s\S]*\[ARGS\]/,
    trigger: '[TOOL_CALLS]',
    open: '[TOOL_CALLS]',
    separator: '[ARGS]',
    keys: null,
    idLength: 9,
  },
  {
    ...plain,
    family: 'mistral',
    template: /\[TOOL_CALLS\]/,
    trigger: '[TOOL_CALLS]',
    start: '[TOOL_CALLS] [',
    between: ', ',
    end: ']',
    keys: NAME_ARGUMENTS,
    idLength: 9,
  },
  {
    ...plain,
    family: 'phi-4-mini',
    template: /<\|\/tool_call\|>/,
    trigger: '<|tool_call|>',
    start: '<|tool_call|>[',
    between: ', ',
    end: ']<|/tool_call|>',
    keys: NAME_ARGUMENTS,
  },
  {
    ...plain,
    family: 'granite',
    template: /<\|tool_call\|>/,
    trigger: '<|tool_call|>',
    start: '<|tool_call|>[',
    between: ', ',
    end: ']',
    keys: NAME_ARGUMENTS,
  },
  {
    ...plain,
    family: 'qwen3-coder',
    template: /<tool_call>[\s\S]*<function=[\s\S]*<parameter=/,
    trigger: '<tool_call>',
    open: '<tool_call>\n<function=',
    separator: '>\n',
    close: '</function>\n</tool_call>',
    between: '\n',
    keys: null,
    elements: {
      call: '<function=',
      open: '<parameter=',
      separator: '>\n',
      close: '\n</parameter>\n',
      callEnd: '</function>',
    },
  },
  {
    ...plain,
    family: 'hermes',
    // `<function=` without `<parameter=` is an unknown format.
    template: /<tool_call>(?![\s\S]*<function=)/,
    trigger: '<tool_call>',
    open: '<tool_call>\n',
    close: '\n</tool_call>',
    between: '\n',
    keys: NAME_ARGUMENTS,
  },
  {
    ...plain,
    family: 'llama-3',
    template: /["']parameters["']\s*:/,
    trigger: null,
    between: '; ',
    keys: { name: 'name', arguments: 'parameters' },
  },
];

/** Null if the template does not support tools or uses an unknown format. */
export function findToolForm(templates: readonly string[]): ToolForm | null {
  const withTools = templates.filter(template => /\btools\b/.test(template));
  return forms.find(form => withTools.some(template => form.template.test(template))) ?? null;
}

/** Texts of the formats that a tokenizer may have as single tokens. */
export const CONTROL_TEXTS: readonly string[] = [
  '<｜tool▁calls▁begin｜>',
  '<｜tool▁call▁begin｜>',
  '<｜tool▁sep｜>',
  '<｜tool▁call▁end｜>',
  '<｜tool▁calls▁end｜>',
  '<|START_ACTION|>',
  '<|END_ACTION|>',
  '[TOOL_CALLS]',
  '[ARGS]',
  '<|tool_call|>',
  '<|/tool_call|>',
  '<tool_call>',
  '</tool_call>',
  '<|python_tag|>',
];
