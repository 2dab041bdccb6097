// A fake generation client: prompts of a given number of tokens, answers of a given number of single-token pieces.
import { setTimeout as sleep } from 'node:timers/promises';
import type { GenerationClient } from '../../src/serving/client.ts';

export interface FakeAnswer {
  promptTokens: number;
  completionTokens: number;
  /** Delay before each piece. */
  delayMs?: number;
}

export function fakeGeneration(answer: FakeAnswer): GenerationClient {
  const client: Pick<GenerationClient, 'generate' | 'close'> = {
    async *generate(_model, parameters, signal) {
      const { promptTokens, completionTokens, delayMs } = answer;
      yield { type: 'started', promptTokens };
      for (let piece = 0; piece < completionTokens; piece++) {
        if (delayMs) await sleep(delayMs, undefined, { signal });
        yield { type: 'piece', choice: 0, text: 'a', tokens: [] };
      }
      for (let choice = 0; choice < parameters.n; choice++)
        yield { type: 'finished', choice, finishReason: 'stop' };
      yield { type: 'done', promptTokens, completionTokens };
    },
    close: async () => undefined,
  };
  return client as GenerationClient;
}
