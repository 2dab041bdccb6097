// `| string` in chat templates, against what Python's jinja2 made of the same template and arguments.
import { expect, test } from 'vitest';
import { chatTemplate } from '../../src/data/chat-template.ts';

const TEMPLATE =
  '{% macro shown(value) %}{{ value | string }}{% endmacro %}' +
  '{%- for message in messages -%}{%- for call in message.tool_calls -%}{%- for name, value in call.function.arguments|items -%}' +
  "{{ name + '=' + (value if value is string else value | string) + ';' }}{{ shown(value) | length }}{{ '\\n' }}" +
  '{%- endfor -%}{%- endfor -%}{%- endfor -%}';

const ARGUMENTS = {
  text: "it's",
  none: null,
  yes: true,
  no: false,
  count: 3,
  half: -0.5,
  list: [1, 'a', null, [true]],
  map: { a: "it's", b: 'say "hi"', c: 'it\'s "x"', d: 'one\ntwo\t\\', e: { f: 'é\u0001' } },
  empty: {},
};

const EXPECTED = [
  "text=it's;4",
  'none=None;4',
  'yes=True;4',
  'no=False;5',
  'count=3;1',
  'half=-0.5;4',
  "list=[1, 'a', None, [True]];22",
  `map={'a': "it's", 'b': 'say "hi"', 'c': 'it\\'s "x"', 'd': 'one\\ntwo\\t\\\\', 'e': {'f': 'é\\x01'}};90`,
  'empty={};2',
].join('\n');

test('values are written as Python writes them, in macros and conditions too', () => {
  const call = { type: 'function' as const, function: { name: 'f', arguments: JSON.stringify(ARGUMENTS) } };
  const { prepare, render } = chatTemplate({ default: TEMPLATE }, {});
  const messages = prepare([{ role: 'assistant', content: null, tool_calls: [{ ...call, id: 'a' }] }]);
  expect(render(messages, null).trim()).toBe(EXPECTED);
});
