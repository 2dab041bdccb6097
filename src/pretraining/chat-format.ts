// anneal-tiny's special tokens, its chat template, and documents rendered with them. The service reads the template
// from the model's folder, as for any model; the corpus generator renders the same format directly.
import type { Document } from './corpus.ts';

export const BEGIN = '<|begin_of_text|>';
export const END = '<|end_of_text|>';
const TURN = '<|im_start|>';
export const END_OF_TURN = '<|im_end|>';
export const PAD = '<|pad|>';
export const specialTokens = [BEGIN, END, TURN, END_OF_TURN, PAD] as const;

export const chatTemplate = [
  '{{ bos_token }}',
  '{% for message in messages %}',
  `{{ '${TURN}' + message['role'] + '\\n' + message['content'] + '${END_OF_TURN}' + '\\n' }}`,
  '{% endfor %}',
  `{% if add_generation_prompt %}{{ '${TURN}assistant\\n' }}{% endif %}`,
].join('');

/** The whole document as the model sees it, from the beginning token to the end token. */
export function renderDocument(document: Document): string {
  if (document.kind === 'text') return `${BEGIN}${document.text}${END}`;
  const turns = document.messages.map(({ role, content }) => `${TURN}${role}\n${content}${END_OF_TURN}\n`);
  return BEGIN + turns.join('');
}

/** The text of a document without special tokens, for training the vocabulary. */
export function plainTexts(document: Document): string[] {
  if (document.kind === 'text') return [document.text];
  return document.messages.flatMap(({ role, content }) => [`${role}\n`, content, '\n']);
}
