// Requests for answers of models: let in under the limits of their project, and noted with what they took. The limits
// themselves are set elsewhere (rate-limits.ts), and costs are made of what is noted later (costs.ts).
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Deps } from '../deps.ts';
import { admitRequest } from '../metering/admission.ts';
import { limitedModel } from '../metering/limited-model.ts';
import type { GenerationEvent } from '../serving/protocol.ts';
import type { UsageKind } from '../store/usage.ts';

export interface MeteredRequest {
  kind: UsageKind;
  /** As the request names it. */
  model: string;
  /** What it will take at most, as far as one knows before; asked only where tokens are limited. */
  estimateTokens(): number;
  /** When it has ended, where that is not when its response is closed. */
  until?: Promise<unknown> | undefined;
}

export interface Meter {
  /** Hands the events of generations on, and notes what they took. */
  follow(events: AsyncIterable<GenerationEvent>): AsyncGenerator<GenerationEvent>;
  /** For answers that come at once. */
  note(counts: { inputTokens: number; outputTokens?: number }): void;
}

/**
 * Throws a 429 when a limit of the project is reached. What the request took is recorded when its response is closed: whole,
 * broken off by the client, or an error. A request of which nothing was noted has taken nothing.
 */
export async function admit(
  deps: Pick<Deps, 'pool' | 'usage'>,
  request: FastifyRequest,
  reply: FastifyReply,
  metered: MeteredRequest,
): Promise<Meter> {
  const { caller } = request;
  const model = limitedModel(metered.model);
  const taken = caller.limited ? metered.estimateTokens() : 0;
  let limited = false;
  if (caller.limited) {
    const admitted = await admitRequest(deps.pool, { projectId: caller.projectId, model, tokens: taken });
    reply.headers(admitted.headers);
    if (admitted.refusal) throw admitted.refusal;
    limited = admitted.limited;
  }
  const tally = newTally();
  const settle = () => {
    const counts = tally.counts();
    const { kind } = metered;
    const { projectId, keyId: apiKeyId } = caller;
    if (counts)
      deps.usage.record(
        { kind, model: metered.model, projectId, apiKeyId, batch: caller.inBatch === true },
        { requests: 1, ...counts },
      );
    const tokens = counts ? counts.inputTokens + counts.outputTokens : 0;
    if (limited && tokens !== taken) deps.usage.settle(projectId, model, tokens - taken);
  };
  if (metered.until) void metered.until.finally(settle);
  else if (reply.raw.closed)
    settle(); // the client went away while it was let in
  else reply.raw.once('close', settle);
  return tally;
}

interface Tally extends Meter {
  /** Null when nothing was noted. */
  counts(): { inputTokens: number; cachedTokens: number; outputTokens: number } | null;
}

function newTally(): Tally {
  let noted = false;
  let running = 0;
  let inputTokens = 0;
  let outputTokens = 0;
  let pieces = 0;
  const hear = (event: GenerationEvent) => {
    if (event.type === 'started') {
      noted = true;
      running++;
      inputTokens += event.promptTokens;
    } else if (event.type === 'piece' || event.type === 'call') pieces++;
    else if (event.type === 'done') {
      running--;
      outputTokens += event.completionTokens;
    }
  };
  return {
    async *follow(events) {
      for await (const event of events) {
        hear(event);
        yield event;
      }
    },
    note(counts) {
      noted = true;
      inputTokens += counts.inputTokens;
      outputTokens += counts.outputTokens ?? 0;
    },
    counts() {
      if (!noted) return null;
      // of a generation that was broken off the pieces are known that were sent, each of a token at least
      const output = running > 0 ? Math.max(outputTokens, pieces) : outputTokens;
      return { inputTokens, cachedTokens: 0, outputTokens: output };
    },
  };
}
