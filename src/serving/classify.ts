// Serves classification requests: from texts to the head's outputs. Independent of HTTP and IPC.
import { TemplateError } from '../data/chat-template.ts';
import { contentText, type Message } from '../data/conversation.ts';
import { type ReadLine, readTokens } from '../data/labelled.ts';
import { ApiError } from '../errors.ts';
import type { OutputMeaning } from '../formats/classifier-config.ts';
import type { Classifier, LoadedHead } from './classifier.ts';
import { largest, probabilitiesOf } from './head-outputs.ts';
import type { LoadedModels, OpenedModel } from './loaded-models.ts';
import type { ClassificationEvent, GenerationEvent, GenerationParameters, ServedModel } from './protocol.ts';

export interface ClassificationRequest {
  readonly model: ServedModel;
  readonly inputs: readonly ReadLine[];
  readonly signal: AbortSignal;
}

interface Asked {
  readonly classifier: Classifier;
  readonly head: LoadedHead;
}

/** Throws ApiError for user errors, and the signal's reason when aborted. */
export const classifyTexts = (
  models: LoadedModels,
  request: ClassificationRequest,
): Promise<ClassificationEvent> =>
  models.with(request.model.directory, async opened => {
    const asked = await opened.heads.find(request.model);
    if (asked) return classify(opened, asked, request);
    const message = `This is not a classification model and thus not supported in the v1/classifications endpoint: ${request.model.id} has no classification or regression head.`;
    throw new ApiError('not_found', message, { param: 'model' });
  });

async function classify(
  { tokenizer }: OpenedModel,
  { classifier, head }: Asked,
  { inputs, signal }: ClassificationRequest,
): Promise<ClassificationEvent> {
  const texts = inputs.map((input, i) => {
    const name = inputs.length === 1 ? 'input' : `input[${i}]`;
    const tokens = encode(() => readTokens(asTaught(input, head.meaning), tokenizer), name);
    checkLength(tokens, classifier.model.shape.maxPositions, name);
    return tokens;
  });
  const outputs = await Promise.all(texts.map(tokens => classifier.outputs({ tokens, head, signal })));
  const { problem, labels } = head.meaning;
  return {
    type: 'classified',
    problem,
    labels: [...labels],
    outputs: outputs.map(each => Array.from(probabilitiesOf(each, problem))),
    promptTokens: texts.reduce((sum, { length }) => sum + length, 0),
  };
}

/** Converts an input to the form of the training lines: a plain text or a conversation. */
function asTaught(input: ReadLine, { reads }: OutputMeaning): ReadLine {
  if (reads === 'messages')
    return 'messages' in input ? input : { messages: [{ role: 'user', content: input.input }] };
  if ('input' in input) return input;
  return { input: contentText(lastSaid(input.messages)?.content) };
}

const lastSaid = (messages: readonly Message[]): Message | undefined =>
  messages.findLast(({ role }) => role === 'user') ?? messages.at(-1);

function encode(read: () => number[], name: string): number[] {
  try {
    return read();
  } catch (cause) {
    if (!(cause instanceof TemplateError)) throw cause;
    const message = `The model's chat template refuses '${name}': ${cause.message}`;
    throw new ApiError('invalid_value', message, { param: 'input', cause });
  }
}

function checkLength({ length }: readonly number[], most: number, name: string): void {
  if (length === 0)
    throw new ApiError('invalid_value', `Invalid '${name}': the text has no tokens.`, {
      param: 'input',
    });
  if (length <= most) return;
  const message =
    `This model's maximum context length is ${most} tokens, however you requested ${length} tokens in '${name}'. ` +
    'Please reduce it.';
  throw new ApiError('context_length_exceeded', message, { param: 'input' });
}

// ---- as text

/** The label, the labels on one line each, or the number. */
export function wordsOf(
  outputs: ArrayLike<number>,
  { problem, labels }: Pick<OutputMeaning, 'problem' | 'labels'>,
): string {
  if (problem === 'regression') return String(outputs[0]);
  if (problem === 'single') return labels[largest(outputs)]!;
  return labels.filter((_, i) => outputs[i]! > 0.5).join('\n');
}

interface WordsRequest {
  readonly model: ServedModel;
  readonly parameters: GenerationParameters;
  readonly signal: AbortSignal;
  emit(event: GenerationEvent): void;
}

/** Generation requests to a classifier: every choice is the same text. */
export async function answerInWords(
  opened: OpenedModel,
  asked: Asked,
  { model, parameters, signal, emit }: WordsRequest,
): Promise<void> {
  const { prompt, n } = parameters;
  refuseForms(parameters);
  const input: ReadLine =
    prompt.kind === 'chat'
      ? { messages: prompt.messages, tools: prompt.tools }
      : { input: prompt.kind === 'text' ? prompt.text : opened.tokenizer.decode(prompt.tokens) };
  const { outputs, promptTokens, ...meaning } = await classify(opened, asked, {
    model,
    inputs: [input],
    signal,
  });
  const text = wordsOf(outputs[0]!, meaning);
  emit({ type: 'started', promptTokens });
  for (let choice = 0; choice < n; choice++) {
    emit({ type: 'piece', choice, text, tokens: [] });
    emit({ type: 'finished', choice, finishReason: 'stop' });
  }
  const completionTokens = n * opened.tokenizer.encode(text).length;
  emit({ type: 'done', promptTokens, completionTokens });
}

/** Rejects parameters that need generated tokens. */
function refuseForms({ form, topLogprobs, echo }: GenerationParameters): void {
  const asked = [
    [form !== null, 'response_format'],
    [topLogprobs !== null, 'logprobs'],
    [echo, 'echo'],
  ] as const;
  const param = asked.find(([isAsked]) => isAsked)?.[1];
  if (!param) return;
  const message = `Unsupported parameter: '${param}' is not supported with this model: it is a classifier and generates no tokens.`;
  throw new ApiError('unsupported_parameter', message, { param });
}
