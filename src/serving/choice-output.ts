// Turns the text of one choice into events of text and tool calls, streamed or all at its end.
import { newId, randomText } from '../ids.ts';
import type { ChoicePiece } from './choice.ts';
import type { FinishReason, GenerationEvent } from './protocol.ts';
import { type CallPart, type CallReading, createCallReader, type ToolSchemas } from './tool-calls.ts';
import type { ToolForm } from './tool-forms.ts';

export interface ChoiceOutput {
  take(piece: ChoicePiece): void;
  /** Whether a call is complete and parallel calls are not allowed. */
  readonly full: boolean;
  /** Emits what was held, as choice `index`, and the finish reason. To be called once. */
  release(index: number, ended: 'stop' | 'length'): void;
}

export interface CallsExpected {
  form: ToolForm;
  tools: ToolSchemas;
  parallel: boolean;
}

interface HeldCall {
  id: string;
  name: string;
  arguments: string;
}

export interface ChoiceOutputOptions {
  index: number;
  /** Nothing is emitted before `release`. */
  hold: boolean;
  calls: CallsExpected | null;
  emit(event: GenerationEvent): void;
}

export function createChoiceOutput({
  index,
  hold,
  calls: expected,
  emit,
}: ChoiceOutputOptions): ChoiceOutput {
  const reader = expected && createCallReader(expected.form, expected.tools);
  const held: ChoicePiece = { text: '', tokens: [] };
  const calls: HeldCall[] = [];

  const say = (piece: ChoicePiece): void => {
    if (piece.text === '' && piece.tokens.length === 0) return;
    if (!hold) emit({ type: 'piece', choice: index, ...piece });
    else {
      held.text += piece.text;
      held.tokens.push(...piece.tokens);
    }
  };
  const addPart = (part: CallPart): void => {
    const { name, arguments: text } = part;
    const id = name === null ? null : newCallId(expected!.form);
    if (id !== null && name !== null) calls.push({ id, name, arguments: text });
    else calls.at(-1)!.arguments += text;
    if (!hold) emit({ type: 'call', choice: index, index: part.index, id, name, arguments: text });
  };
  /** Omits the tokens of calls: clients expect log-probabilities of the text only. */
  const give = ({ text, parts }: CallReading, tokens: ChoicePiece['tokens']): void => {
    say({ text, tokens: reader!.calls > 0 ? [] : tokens });
    for (const part of parts) addPart(part);
  };
  return {
    get full() {
      return reader !== null && !expected!.parallel && reader.complete > 0;
    },
    take(piece) {
      if (reader) give(reader.push(piece.text), piece.tokens);
      else say(piece);
    },
    release(as, ended) {
      if (reader) give(reader.end(), []);
      if (hold) {
        emit({ type: 'piece', choice: as, ...held });
        for (const [i, call] of calls.entries()) emit({ type: 'call', choice: as, index: i, ...call });
      }
      const finishReason: FinishReason = ended === 'stop' && calls.length > 0 ? 'tool_calls' : ended;
      emit({ type: 'finished', choice: as, finishReason });
    },
  };
}

const newCallId = ({ idLength }: ToolForm): string =>
  idLength === null ? newId('toolCall') : randomText(idLength);
