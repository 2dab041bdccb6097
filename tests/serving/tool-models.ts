// The tiny llama model with the chat templates of families that call tools, each in its own form.
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Deps } from '../../src/deps.ts';
import { upsertBaseModel } from '../../src/store/models.ts';
import { BASE, golden, storeFolder } from './serving.ts';

const turns = (calls: string, tools: string): string =>
  [
    `{{- bos_token -}}{%- if tools -%}${tools}{%- endif -%}`,
    "{%- for message in messages -%}{{- '<|im_start|>' + message.role + '\\n' -}}",
    `{%- if message.content -%}{{- message.content -}}{%- endif -%}`,
    `{%- if message.tool_calls -%}${calls}{%- endif -%}{{- '<|im_end|>' -}}{%- endfor -%}`,
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}",
  ].join('');
const LIST = '{%- for tool in tools -%}{{- tool.function.name -}}{%- endfor -%}';

/** In Hermes', Qwen3-Coder's and Llama's forms the marks are ordinary text here; Mistral's is a special token. */
const TEMPLATES = {
  'hermes-tiny': turns(
    `{%- for call in message.tool_calls -%}{{- '<tool_call>\\n' + (call.function | tojson) + '\\n</tool_call>' -}}{%- endfor -%}`,
    LIST,
  ),
  'qwen3-coder-tiny': turns(
    `{%- for call in message.tool_calls -%}{{- '<tool_call>\\n<function=' + call.function.name + '>\\n' -}}` +
      `{%- for name, value in call.function.arguments|items -%}{{- '<parameter=' + name + '>\\n' -}}{{- value | string -}}{{- '\\n</parameter>\\n' -}}{%- endfor -%}` +
      `{{- '</function>\\n</tool_call>' -}}{%- endfor -%}`,
    LIST,
  ),
  'llama-tools-tiny': turns(
    `{{- '{"name": "' + message.tool_calls[0].function.name + '", "parameters": ' + (message.tool_calls[0].function.arguments | tojson) + '}' -}}`,
    LIST,
  ),
  'mistral-tiny': turns(
    `{{- '[TOOL_CALLS] [' -}}{%- for call in message.tool_calls -%}{%- if call.id | length != 9 -%}{{- raise_exception('Tool call IDs should be alphanumeric strings with length 9!') -}}{%- endif -%}{{- call.function | tojson -}}{%- endfor -%}{{- ']' -}}`,
    LIST,
  ),
} as const;

export const FAMILIES = Object.keys(TEMPLATES) as (keyof typeof TEMPLATES)[];
/** The token that `[TOOL_CALLS]` is for `mistral-tiny`. */
export const TOOL_CALLS_TOKEN = 0;

export async function storeToolModels(deps: Pick<Deps, 'blobs' | 'pool'>): Promise<void> {
  for (const [id, template] of Object.entries(TEMPLATES)) {
    const folder = await mkdtemp(join(tmpdir(), 'anneal-tools-'));
    await cp(golden(BASE), folder, { recursive: true });
    await writeFile(join(folder, 'chat_template.jinja'), template);
    if (id === 'mistral-tiny') await renameToken(folder);
    const files = await storeFolder(deps, id, folder);
    await upsertBaseModel(deps.pool, { id, architecture: 'llama', ownedBy: 'test', files });
    await rm(folder, { recursive: true });
  }
}

/** The token that nothing else needs here; it ends no answer any more. */
async function renameToken(folder: string): Promise<void> {
  await writeFile(join(folder, 'generation_config.json'), JSON.stringify({ eos_token_id: 2 }));
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    const text = await readFile(join(folder, name), 'utf8');
    await writeFile(join(folder, name), text.replaceAll('<|endoftext|>', '[TOOL_CALLS]'));
  }
}
