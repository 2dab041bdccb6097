// Admission and metering of inference requests: checks the project's rate limits, then records the usage. Limits are configured by
// rate-limits.ts; costs are computed from the usage by costs.ts.
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Deps } from '../deps.ts';
import { admitRequest } from '../metering/admission.ts';
import { limitedModel } from '../metering/limited-model.ts';
import type { GenerationEvent } from '../serving/protocol.ts';
import type { UsageKind } from '../store/usage.ts';

export interface MeteredRequest {
  kind: UsageKind;
  /** Name as in the request. */
  model: string;
  /** Estimated upper bound of its tokens; called only if the project has limits. */
  estimateTokens(): number;
  /** End of the request's work, if it outlasts the response. */
  until?: Promise<unknown> | undefined;
}

export interface Meter {
  /** Passes the events of a generation on and counts its tokens. */
  follow(events: AsyncIterable<GenerationEvent>): AsyncGenerator<GenerationEvent>;
  /** Adds the tokens of a response without events. */
  note(counts: { inputTokens: number; outputTokens?: number }): void;
}

/**
 * Throws a 429 when a rate limit of the project is reached. Usage is recorded when the response is closed, whether it was completed,
 * interrupted by the client, or an error. Without any counted tokens, nothing is recorded.
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
  /** Null when nothing was counted. */
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
      // of an interrupted generation only the sent pieces are known, each of at least one token
      const output = running > 0 ? Math.max(outputTokens, pieces) : outputTokens;
      return { inputTokens, cachedTokens: 0, outputTokens: output };
    },
  };
}
