// Validation rules for single lines of training files, as a table of line formats. Reads no files.
import { isObject } from '../json-object.ts';
import { LONGEST_LABEL } from './labels.ts';

export type LineFormat =
  | 'chat'
  | 'completion'
  | 'preference'
  | 'classification'
  | 'regression'
  | 'pairs'
  | 'prompt';

/** An error in one line. `text` continues "Example 12": ` contains an extra "weight".` */
export interface Finding {
  /** JSON path: `messages[1].role`; empty for the line itself. */
  path: string;
  text: string;
}

type Add = (path: string, text: string) => void;
type Json = Record<string, unknown>;

/** Deeper JSON is rejected: real data is not nested this deeply, and templates and serializers recurse. */
const DEPTH_LIMIT = 64;

interface LineRule {
  /** A line with one of these keys is taken to have this format; formats are tried in table order. */
  readonly keys: readonly string[];
  readonly check: (line: Json, add: Add) => void;
}

const RULES: Readonly<Record<LineFormat, LineRule>> = {
  classification: { keys: ['label', 'labels'], check: checkClassification },
  regression: { keys: ['value'], check: checkRegression },
  chat: { keys: ['messages'], check: checkChat },
  completion: { keys: ['prompt', 'completion'], check: checkCompletion },
  preference: { keys: ['preferred_output', 'non_preferred_output'], check: checkPreference },
  pairs: { keys: ['anchor', 'positive', 'negative'], check: checkPair },
  // Its keys are arbitrary: it is selected by the job's method alone.
  prompt: { keys: [], check: checkPrompt },
};

/** The format that a line seems to have, by its keys; null if none matches. */
export function lineFormat(value: unknown): LineFormat | null {
  if (!isObject(value)) return null;
  const names = Object.keys(RULES) as LineFormat[];
  return names.find(name => RULES[name].keys.some(key => key in value)) ?? null;
}

/** Returns all errors of a line; none if the line is valid. */
export function checkLine(value: unknown, format: LineFormat): Finding[] {
  const findings: Finding[] = [];
  const add: Add = (path, text) => findings.push({ path, text });
  if (!isObject(value)) add('', ' is not a JSON object');
  else if (isTooDeep(value)) add('', ` is nested more than ${DEPTH_LIMIT} levels deep`);
  else RULES[format].check(value, add);
  return findings;
}

const CHAT_KEYS = ['messages', 'tools', 'parallel_tool_calls', 'functions'];
/** Inputs of classification and regression: a text or a conversation. */
const READ_KEYS = ['input', ...CHAT_KEYS];

function checkClassification(line: Json, add: Add): void {
  checkKeys(line, [...READ_KEYS, 'label', 'labels'], '', '', add);
  checkRead(line, add);
  if ('label' in line && 'labels' in line) add('labels', " has both 'label' and 'labels'");
  else if ('label' in line) checkLabel(line.label, 'label', "'label'", add);
  else if ('labels' in line) checkLabels(line.labels, add);
  else add('label', " is missing key 'label' (one label) or 'labels' (a list of any number)");
}

function checkLabel(label: unknown, path: string, name: string, add: Add): void {
  if (typeof label !== 'string' || label.trim() === '')
    add(path, `: ${name} must be a string that is not empty, not ${quote(label)}`);
  else if (label.length > LONGEST_LABEL) add(path, `: ${name} is longer than ${LONGEST_LABEL} characters`);
}

function checkLabels(labels: unknown, add: Add): void {
  if (!Array.isArray(labels)) {
    add('labels', `: 'labels' must be a list of strings, not ${quote(labels)}`);
    return;
  }
  labels.forEach((label, i) => {
    checkLabel(label, `labels[${i}]`, `label ${i + 1}`, add);
    if (labels.indexOf(label) < i) add(`labels[${i}]`, ` has the label ${quote(label)} twice`);
  });
}

function checkRegression(line: Json, add: Add): void {
  checkKeys(line, [...READ_KEYS, 'value'], '', '', add);
  checkRead(line, add);
  if (!('value' in line)) add('value', " is missing key 'value'");
  else if (typeof line.value !== 'number')
    add('value', `: 'value' must be a number, not ${quote(line.value)}`);
  else if (!Number.isFinite(Math.fround(line.value)))
    add('value', `: 'value' must be from -3.4e38 to 3.4e38, not ${quote(line.value)}`);
}

function checkRead(line: Json, add: Add): void {
  if ('input' in line === 'messages' in line) {
    const problem = 'input' in line ? 'has both' : 'is missing key';
    add('input', ` ${problem} 'input' ${'input' in line ? 'and' : 'or'} 'messages'`);
  } else if ('messages' in line) checkConversation(line, add);
  else if (typeof line.input !== 'string' || line.input === '')
    add('input', ": 'input' must be a string that is not empty");
}

function checkPreference(line: Json, add: Add): void {
  checkKeys(line, ['input', 'preferred_output', 'non_preferred_output'], '', '', add);
  if (isObject(line.input)) {
    checkKeys(line.input, ['messages', 'tools', 'parallel_tool_calls'], 'input', ', input', add);
    checkConversation(line.input, (path, text) => add(`input.${path}`, `, input${text}`));
  } else add('input', ": 'input' must be an object with 'messages'");
  for (const side of ['preferred_output', 'non_preferred_output']) checkAnswer(line[side], side, add);
}

function checkPair(line: Json, add: Add): void {
  const keys = ['anchor', 'positive', 'negative'];
  checkKeys(line, keys, '', '', add);
  for (const key of keys) {
    const text = line[key];
    if (!(key in line)) {
      if (key !== 'negative') add(key, ` is missing key '${key}'`);
    } else if (typeof text !== 'string' || text.trim() === '')
      add(key, `: '${key}' must be a string that is not empty, not ${quote(text)}`);
  }
}

/** A conversation without an answer; all other keys are data for graders. */
function checkPrompt(line: Json, add: Add): void {
  if (!('messages' in line)) {
    add('messages', " is missing key 'messages'");
    return;
  }
  const last = checkConversation(line, add)?.at(-1);
  if (!isObject(last) || last.role !== 'assistant') return;
  const at = (line.messages as unknown[]).length - 1;
  add(
    `messages[${at}].role`,
    `, message ${at + 1} is the last and has the role 'assistant': there is nothing to answer`,
  );
}

/** A single assistant message. */
function checkAnswer(answer: unknown, side: string, add: Add): void {
  if (!Array.isArray(answer) || answer.length !== 1) {
    add(side, `: '${side}' must be a list of one message`);
    return;
  }
  const [message] = answer;
  checkMessage(message, 0, (path, text) => add(path.replace('messages', side), `, ${side}${text}`));
  if (isObject(message) && hasRole(message) && message.role !== 'assistant')
    add(`${side}[0].role`, `, ${side} has the role ${quote(message.role)}: it must be 'assistant'`);
}

function checkCompletion(line: Json, add: Add): void {
  checkKeys(line, ['prompt', 'completion'], '', '', add);
  for (const key of ['prompt', 'completion']) {
    if (!(key in line)) add(key, ` is missing key '${key}'`);
    else if (typeof line[key] !== 'string') add(key, `: '${key}' must be a string`);
  }
  if (line.completion === '') add('completion', ' has an empty completion');
}

function checkChat(line: Json, add: Add): void {
  if (!('messages' in line)) {
    add('messages', " is missing key 'messages'");
    return;
  }
  checkKeys(line, CHAT_KEYS, '', '', add);
  const messages = checkConversation(line, add);
  if (messages?.every(hasRole)) checkTrainable(messages, add);
}

/** Checks the inputs of the chat template. Returns the messages, valid or not; null if there are none. */
function checkConversation(line: Json, add: Add): unknown[] | null {
  if (line.tools !== undefined && line.tools !== null) checkTools(line.tools, add);
  if (line.functions !== undefined && line.functions !== null) checkFunctions(line.functions, add);
  if (
    !['boolean', 'undefined'].includes(typeof line.parallel_tool_calls) &&
    line.parallel_tool_calls !== null
  ) {
    add('parallel_tool_calls', ": 'parallel_tool_calls' must be true or false");
  }
  if (!Array.isArray(line.messages) || line.messages.length === 0) {
    add('messages', ": 'messages' must be a list of at least one message");
    return null;
  }
  line.messages.forEach((message, index) => {
    checkMessage(message, index, add);
  });
  return line.messages;
}

function checkTrainable(messages: unknown[], add: Add): void {
  const answers = messages.filter(message => isObject(message) && message.role === 'assistant') as Json[];
  if (answers.length === 0) add('messages', ' has no message of the assistant');
  else if (answers.every(answer => answer.weight === 0)) {
    add('messages', ' has nothing to train on: the weight of every assistant message is 0');
  }
}

interface RoleRule {
  keys: readonly string[];
  required: readonly string[];
}

const PLAIN: RoleRule = { keys: ['role', 'content', 'name'], required: ['content'] };

/** Allowed and required keys of messages by role; assistant messages may have tool calls instead of content. */
const ROLES: Readonly<Record<string, RoleRule>> = {
  system: PLAIN,
  developer: PLAIN,
  user: PLAIN,
  assistant: {
    keys: ['role', 'content', 'name', 'refusal', 'weight', 'tool_calls', 'function_call'],
    required: [],
  },
  tool: { keys: ['role', 'content', 'name', 'tool_call_id'], required: ['content', 'tool_call_id'] },
  function: { keys: ['role', 'content', 'name'], required: ['content', 'name'] },
};
const ROLE_NAMES = Object.keys(ROLES)
  .map(role => `'${role}'`)
  .join(', ');

function checkMessage(message: unknown, index: number, add: Add): void {
  const path = `messages[${index}]`;
  const where = `, message ${index + 1}`;
  if (!isObject(message)) {
    add(path, `${where} is not a JSON object`);
    return;
  }
  if (!('role' in message)) {
    add(`${path}.role`, `${where} Discriminator 'role' is missing in value`);
    return;
  }
  if (!hasRole(message)) {
    add(
      `${path}.role`,
      `${where} has the unknown role ${quote(message.role)}: it must be one of ${ROLE_NAMES}`,
    );
    return;
  }
  const rule = ROLES[message.role]!;
  checkKeys(message, rule.keys, path, where, add);
  for (const key of rule.required) {
    if (!(key in message)) add(`${path}.${key}`, `${where} is missing key '${key}'`);
  }
  for (const key of ['name', 'tool_call_id', 'refusal']) {
    const value = message[key];
    if (value !== undefined && value !== null && typeof value !== 'string') {
      add(`${path}.${key}`, `${where}: '${key}' must be a string`);
    }
  }
  if ('content' in message) checkContent(message, path, where, add);
  if (message.role === 'assistant') checkAssistant(message, path, where, add);
}

function hasRole(message: unknown): message is Json & { role: string } {
  return isObject(message) && typeof message.role === 'string' && Object.hasOwn(ROLES, message.role);
}

function checkContent({ role, content }: Json, path: string, where: string, add: Add): void {
  if (typeof content === 'string' || (content === null && role === 'assistant')) return;
  if (!Array.isArray(content) || content.length === 0) {
    add(`${path}.content`, `${where}: 'content' must be a string or a list of text parts`);
    return;
  }
  content.forEach((part, i) => {
    const at = `${path}.content[${i}]`;
    if (!isObject(part)) add(at, `${where}: content part ${i + 1} is not a JSON object`);
    else if (part.type !== 'text') {
      add(
        `${at}.type`,
        `${where}: content part ${i + 1} has the type ${quote(part.type)}: only 'text' is supported`,
      );
    } else if (typeof part.text !== 'string')
      add(`${at}.text`, `${where}: content part ${i + 1} has no text`);
  });
}

function checkAssistant(message: Json, path: string, where: string, add: Add): void {
  const { weight } = message;
  if (weight !== undefined && weight !== 0 && weight !== 1) {
    add(`${path}.weight`, `${where} has the weight ${quote(weight)}: it must be 0 or 1`);
  }
  if (message.tool_calls !== undefined && message.tool_calls !== null)
    checkToolCalls(message.tool_calls, path, where, add);
  const call = message.function_call;
  if (call !== undefined && call !== null)
    checkCall(call, `${path}.function_call`, where, 'function_call', add);
  const saysNothing = message.content === undefined || message.content === null || message.content === '';
  if (saysNothing && !message.tool_calls && !call && !message.refusal) {
    add(
      `${path}.content`,
      `${where} is missing key 'content'${'content' in message ? ' (it is empty, and there are no tool calls)' : ''}`,
    );
  }
}

function checkToolCalls(calls: unknown, path: string, where: string, add: Add): void {
  if (!Array.isArray(calls) || calls.length === 0) {
    add(`${path}.tool_calls`, `${where}: 'tool_calls' must be a list of at least one call`);
    return;
  }
  calls.forEach((call, i) => {
    const at = `${path}.tool_calls[${i}]`;
    const what = `tool call ${i + 1}`;
    if (!isObject(call)) {
      add(at, `${where}: ${what} is not a JSON object`);
      return;
    }
    checkKeys(call, ['id', 'type', 'function'], at, `${where}, ${what}`, add);
    if (typeof call.id !== 'string') add(`${at}.id`, `${where}: ${what} needs an 'id' that is a string`);
    if (call.type !== 'function') add(`${at}.type`, `${where}: ${what} must have the type 'function'`);
    checkCall(call.function, `${at}.function`, where, what, add);
  });
}

function checkCall(call: unknown, at: string, where: string, what: string, add: Add): void {
  if (!isObject(call) || typeof call.name !== 'string' || call.name === '') {
    add(`${at}.name`, `${where}: ${what} needs a function with a name`);
    return;
  }
  if (typeof call.arguments !== 'string') {
    add(`${at}.arguments`, `${where}: ${what} needs 'arguments' that are a string of JSON`);
  }
}

function checkTools(tools: unknown, add: Add): void {
  if (!Array.isArray(tools)) {
    add('tools', ": 'tools' must be a list");
    return;
  }
  tools.forEach((tool, i) => {
    const where = `, tool ${i + 1}`;
    if (!isObject(tool)) add(`tools[${i}]`, `${where} is not a JSON object`);
    else if (tool.type !== 'function') add(`tools[${i}].type`, `${where} must have the type 'function'`);
    else checkFunction(tool.function, `tools[${i}].function`, where, add);
  });
}

function checkFunctions(functions: unknown, add: Add): void {
  if (!Array.isArray(functions)) {
    add('functions', ": 'functions' must be a list");
    return;
  }
  functions.forEach((fn, i) => {
    checkFunction(fn, `functions[${i}]`, `, function ${i + 1}`, add);
  });
}

const FUNCTION_NAME = /^[a-zA-Z0-9_-]{1,64}$/;

function checkFunction(fn: unknown, path: string, where: string, add: Add): void {
  if (!isObject(fn)) {
    add(path, `${where} needs a 'function' that is an object`);
    return;
  }
  if (typeof fn.name !== 'string' || !FUNCTION_NAME.test(fn.name)) {
    add(`${path}.name`, `${where} needs a name of 1 to 64 letters, digits, '_' or '-'`);
  }
  if (fn.description !== undefined && fn.description !== null && typeof fn.description !== 'string') {
    add(`${path}.description`, `${where}: 'description' must be a string`);
  }
  if (fn.parameters !== undefined && fn.parameters !== null && !isObject(fn.parameters)) {
    add(`${path}.parameters`, `${where}: 'parameters' must be a JSON schema`);
  }
}

function checkKeys(value: Json, known: readonly string[], path: string, where: string, add: Add): void {
  for (const key of Object.keys(value)) {
    if (!known.includes(key))
      add(path === '' ? key : `${path}.${key}`, `${where} contains an extra ${quote(key)}.`);
  }
}

function isTooDeep(line: unknown): boolean {
  let level: unknown[] = [line];
  for (let depth = 0; depth <= DEPTH_LIMIT; depth++) {
    level = level
      .flatMap(value => Object.values(value as object))
      .filter(value => value !== null && typeof value === 'object');
    if (level.length === 0) return false;
  }
  return true;
}

/** JSON of a value, shortened so that errors stay small. */
function quote(value: unknown): string {
  const text = JSON.stringify(value) ?? 'undefined';
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
}
