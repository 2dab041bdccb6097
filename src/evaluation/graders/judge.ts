// Shared by graders that ask a model: renders the messages, appends the instruction, maps errors to grading failures.
import { ApiError } from '../../errors.ts';
import { LimitReached } from '../../metering/admission.ts';
import {
  type ChatAnswer,
  type ChatQuestion,
  type GraderTools,
  GradingFailure,
  type InputMessage,
  type JudgeSampling,
  type Subject,
} from './grader.ts';
import { renderTemplate } from './template.ts';

export function renderContent(content: InputMessage['content'], render: (text: string) => string): string {
  const parts = Array.isArray(content) ? content : [content];
  return parts.map(part => render(typeof part === 'string' ? part : (part.text ?? ''))).join('\n');
}

export function renderMessages(input: readonly InputMessage[], subject: Subject): ChatQuestion['messages'] {
  return input.map(({ role, content }) => ({
    role,
    content: renderContent(content, text => renderTemplate(text, subject)),
  }));
}

export interface Judgement {
  answer: ChatAnswer;
  /** Reported in the grade. */
  spent: {
    usage: { model: string; tokens: ChatAnswer['usage'] }[];
    judgement: { input: ChatQuestion['messages']; output: string };
  };
}

/** Greedy by default, so that judgements are reproducible as far as the model is. */
export async function judge(
  grader: { model: string; input: readonly InputMessage[]; sampling_params?: JudgeSampling },
  { instruction, schema }: { instruction: string; schema: object },
  { subject, tools, signal }: { subject: Subject; tools: GraderTools; signal: AbortSignal },
): Promise<Judgement> {
  const { temperature, top_p, seed, max_completions_tokens } = grader.sampling_params ?? {};
  const messages = instruct(renderMessages(grader.input, subject), instruction);
  const question: ChatQuestion = {
    model: grader.model,
    messages,
    form: { json: { schema, strict: false, param: 'grader' }, calls: null },
    tools: null,
    temperature: temperature ?? 0,
    topP: top_p ?? 1,
    seed: seed ?? 0,
    maxTokens: max_completions_tokens ?? null,
  };
  const answer = await tools.ask(question, signal).catch(error => {
    if (error instanceof ApiError && !(error instanceof LimitReached))
      throw new GradingFailure('model_grader_server_error', error.message);
    throw error;
  });
  const usage = [{ model: grader.model, tokens: answer.usage }];
  const spent = { usage, judgement: { input: messages, output: answer.text } };
  if (answer.refusal) throw new GradingFailure('model_grader_refusal_error', answer.refusal, spent);
  return { answer, spent };
}

/** Appends to the last message, since not all chat templates support a second system message. */
function instruct(messages: ChatQuestion['messages'], instruction: string): ChatQuestion['messages'] {
  const last = messages.at(-1);
  if (last?.role !== 'user') return [...messages, { role: 'user', content: instruction }];
  return [...messages.slice(0, -1), { role: 'user', content: `${last.content}\n\n${instruction}` }];
}
