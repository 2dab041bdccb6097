// The generation process: holds the engine, models and adapters, and serves the api's requests over IPC.
import { setPriority } from 'node:os';
import { openEngine } from '../engine/engine.ts';
import { ApiError } from '../errors.ts';
import { ModelError } from '../models/model-error.ts';
import { classifyTexts } from './classify.ts';
import { embedTexts } from './embed.ts';
import { openLoadedModels } from './loaded-models.ts';
import { type Failure, type FromChild, NO_REQUEST, type ServiceOptions, type ToChild } from './protocol.ts';
import { answerRequest } from './service.ts';

/** Below the api, above training (10). */
const NICENESS = 8;

function toFailure(error: unknown): Failure {
  if (error instanceof ApiError)
    return { type: 'failed', kind: error.kind, message: error.message, param: error.param, stack: null };
  const message =
    error instanceof ModelError
      ? `The model cannot be served: ${error.message}`
      : 'The server had an error while processing your request.';
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { type: 'failed', kind: 'server_error', message, param: null, stack };
}

async function main(): Promise<void> {
  const options = JSON.parse(process.argv[2]!) as ServiceOptions;
  setPriority(options.niceness ?? NICENESS);
  const running = new Map<number, AbortController>();
  let outbox: FromChild = [];

  /** Batches the events of one turn of the event loop into one message. */
  const send = (id: number, event: FromChild[number]['event']): void => {
    outbox.push({ id, event });
    if (outbox.length > 1) return;
    setImmediate(() => {
      const sent = outbox;
      outbox = [];
      if (process.connected) process.send!(sent);
    });
  };
  const models = openLoadedModels(await openEngine(options), {
    ...options,
    notify: (message, details) => send(NO_REQUEST, { type: 'notice', message, details }),
  });
  const work = async (message: Exclude<ToChild, { type: 'cancel' }>): Promise<void> => {
    const { id } = message;
    const controller = new AbortController();
    running.set(id, controller);
    try {
      const { signal } = controller;
      if (message.type === 'embed') send(id, await embedTexts(models, { ...message, signal }));
      else if (message.type === 'classify') send(id, await classifyTexts(models, { ...message, signal }));
      else await answerRequest(models, { ...message, signal, emit: event => send(id, event) });
    } catch (error) {
      if (!controller.signal.aborted) send(id, toFailure(error));
    } finally {
      running.delete(id);
    }
  };
  process.on('message', (message: ToChild) => {
    if (message.type === 'cancel') running.get(message.id)?.abort(new Error('cancelled'));
    else void work(message);
  });
  process.on('disconnect', () => process.exit(0));
  // Ctrl-C reaches the whole process group; the api stops this process after finishing its requests.
  process.on('SIGINT', () => undefined);
}

await main();
