// A run cut anywhere and gone on with is the unbroken run, bit for bit: stopped at every step, paused, killed.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { crashMessage, crashReason } from '../../src/queue/crash.ts';
import type { TrainerCommand, TrainerEvent, TrainSpec } from '../../src/training/protocol.ts';
import { collect, eventsOf, toySpec } from './toy-task.ts';

const hyperparameters = { n_epochs: 2, batch_size: 7, dropout: 0.1, weight_decay: 0.1 };
const specOf = (): TrainSpec => toySpec({ engine: 'onnx', threads: 2, hyperparameters });

const lossesOf = (events: readonly TrainerEvent[]) => eventsOf(events, 'step').map(({ metrics }) => metrics);

/** The bytes of every model that a run made, by step. */
function modelsOf(spec: TrainSpec): Record<string, string> {
  const folder = join(spec.workDirectory, 'checkpoints');
  if (!existsSync(folder)) return {};
  return Object.fromEntries(
    readdirSync(folder)
      .filter(name => name.startsWith('model-'))
      .map(name => [name, readFileSync(join(folder, name, 'adapter_model.safetensors'), 'base64')]),
  );
}

const unbroken = { spec: specOf(), events: [] as TrainerEvent[], total: 0 };
beforeAll(async () => {
  unbroken.events = await collect(unbroken.spec);
  unbroken.total = lossesOf(unbroken.events).length;
});

/** A run in another folder, as on another machine: with the layout of the first and what its checkpoint holds. */
const goOn = (directory: string | null, layout: TrainSpec['layout'] = null): TrainSpec => {
  const spec = specOf();
  const { trainingFile, validationFile } = unbroken.spec;
  return { ...spec, trainingFile, validationFile, resumeDirectory: directory, layout };
};

describe('a resumed run', { timeout: 120_000 }, () => {
  it('equals the unbroken one from every step', async () => {
    const checkpoints = eventsOf(unbroken.events, 'checkpoint').filter(({ kind }) => kind === 'resume');
    expect(checkpoints.map(({ step }) => step)).toEqual(
      Array.from({ length: unbroken.total }, (_, i) => i + 1),
    );
    for (const { step, directory } of checkpoints) {
      const spec = goOn(directory);
      const events = await collect(spec);
      expect(lossesOf(events), `from step ${step}`).toEqual(lossesOf(unbroken.events).slice(step));
      expect(eventsOf(events, 'finished')).toEqual(eventsOf(unbroken.events, 'finished'));
      expect(modelsOf(unbroken.spec)).toMatchObject(modelsOf(spec));
      expect(readFileSync(join(spec.workDirectory, 'results.csv'), 'utf8')).toBe(
        readFileSync(join(unbroken.spec.workDirectory, 'results.csv'), 'utf8'),
      );
    }
  });

  it('that never reached a checkpoint is laid out as before and gives the same losses', async () => {
    const { layout } = eventsOf(unbroken.events, 'prepared')[0]!;
    const events = await collect(goOn(null, layout));
    expect(eventsOf(events, 'prepared')[0]!.layout).toEqual(layout);
    expect(lossesOf(events)).toEqual(lossesOf(unbroken.events));
  });

  it('does not go on with other data', async () => {
    const { directory } = eventsOf(unbroken.events, 'checkpoint')[0]!;
    const spec = { ...goOn(directory), trainingFile: toySpec({}, 12).trainingFile };
    await expect(collect(spec)).rejects.toThrow('other data');
  });
});

describe('commands', { timeout: 120_000 }, () => {
  const at =
    (step: number, type: TrainerCommand['type']) =>
    (event: TrainerEvent): TrainerCommand | null =>
      event.type === 'step' && event.metrics.step === step ? { type } : null;

  it('pause leaves a checkpoint of the step before, from which the run goes on', async () => {
    const spec = { ...goOn(null), checkpointSeconds: 3600 };
    const events = await collect(spec, at(2, 'pause'));
    expect(events.at(-1)).toEqual({ type: 'stopped', reason: 'pause', step: 2 });
    const [checkpoint] = eventsOf(events, 'checkpoint');
    expect(checkpoint).toMatchObject({ kind: 'resume', step: 2, metrics: { step: 2 } });
    const later = await collect(goOn(checkpoint!.directory));
    expect([...lossesOf(events), ...lossesOf(later)]).toEqual(lossesOf(unbroken.events));
  });

  it('pause in an epoch’s last step waits for its validation, not for another step', async () => {
    const last = unbroken.total / 2;
    const events = await collect(goOn(null), at(last, 'pause'));
    expect(events.at(-1)).toEqual({ type: 'stopped', reason: 'pause', step: last });
    expect(lossesOf(events).at(-1)!.full_valid_loss).toBeDefined();
  });

  it('cancel stops before the next step and leaves nothing more', async () => {
    const events = await collect({ ...goOn(null), checkpointSeconds: 3600 }, at(2, 'cancel'));
    expect(lossesOf(events)).toHaveLength(2);
    expect(eventsOf(events, 'checkpoint')).toEqual([]);
    expect(events.at(-1)).toEqual({ type: 'stopped', reason: 'cancel', step: 2 });
  });

  it.each(['cancel', 'pause'] as const)(
    '%s is heard before the first step and while evaluating',
    async type => {
      const first = await collect(goOn(null), event => (event.type === 'progress' ? { type } : null));
      expect(first.at(-1)).toEqual({ type: 'stopped', reason: type, step: 0 });
      const late = await collect(goOn(null), event =>
        event.type === 'progress' && event.message === 'Evaluating' ? { type } : null,
      );
      expect(late.at(-1)).toEqual({ type: 'stopped', reason: type, step: unbroken.total });
    },
  );
});

describe('the trainer process', { timeout: 120_000 }, () => {
  const start = (spec: TrainSpec) => {
    mkdirSync(spec.workDirectory, { recursive: true });
    const file = join(spec.workDirectory, 'spec.json');
    writeFileSync(file, JSON.stringify(spec));
    const child = fork(join(import.meta.dirname, '../../src/training/child.ts'), [file], {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    const events: TrainerEvent[] = [];
    child.on('message', event => events.push(event as TrainerEvent));
    return { child, events };
  };

  it.skipIf(process.platform !== 'linux')(
    'that finds its disk full ends as a crash, from which its job goes on',
    async () => {
      const spec = toySpec({ hyperparameters: { n_epochs: 1 } });
      mkdirSync(spec.workDirectory, { recursive: true });
      symlinkSync('/dev/full', join(spec.workDirectory, 'results.csv'));
      const { child, events } = start(spec);
      const output = child.stderr!.setEncoding('utf8').toArray();
      const [code, signal] = await once(child, 'exit');
      expect(eventsOf(events, 'failed')).toEqual([]);
      expect(code).toBe(1);
      const reason = crashReason({ code, signal, output: (await output).join('') });
      expect(crashMessage(reason, 3)).toBe(
        'The worker has no disk space left, 3 times in a row without reaching a checkpoint. Free space where its ANNEAL_DATA_DIR is.',
      );
    },
  );

  it('killed at any moment and started again, ends with the same losses and models', async () => {
    const spec = goOn(null);
    const seen = new Map<number, unknown>();
    let resumeDirectory: string | null = null;
    let layout: TrainSpec['layout'] = null;
    let kills = 0;
    for (let delayMs = 0; ; delayMs += 3) {
      const { child, events } = start({ ...spec, resumeDirectory, layout });
      child.on('message', event => {
        const { type } = event as TrainerEvent;
        if (type === 'step' && kills < 6) setTimeout(() => child.kill('SIGKILL'), delayMs % 40);
      });
      const [code] = await once(child, 'exit');
      if (code === null) kills += 1;
      for (const metrics of lossesOf(events)) seen.set(metrics.step, metrics);
      layout ??= eventsOf(events, 'prepared')[0]?.layout ?? null;
      resumeDirectory =
        eventsOf(events, 'checkpoint').findLast(({ kind }) => kind === 'resume')?.directory ??
        resumeDirectory;
      if (code === 0) break;
    }
    expect(kills).toBe(6);
    expect([...seen.values()]).toEqual(lossesOf(unbroken.events));
    expect(modelsOf(spec)).toEqual(modelsOf(unbroken.spec));
    expect(
      readdirSync(join(spec.workDirectory, 'checkpoints')).filter(name => name.endsWith('.partial')),
    ).toEqual([]);
  });

  it('stops within a step when it is told to', async () => {
    const { child, events } = start({ ...goOn(null), hyperparameters: { ...hyperparameters, n_epochs: 50 } });
    child.once('message', () => {});
    await new Promise<void>(resolve => {
      child.on('message', event => {
        if ((event as TrainerEvent).type === 'step') resolve();
      });
    });
    child.send({ type: 'cancel' } satisfies TrainerCommand);
    const [code] = await once(child, 'exit');
    expect(code).toBe(0);
    expect(events.at(-1)).toMatchObject({ type: 'stopped', reason: 'cancel' });
  });

  it('ends when its parent lets go of it', async () => {
    const { child } = start({ ...goOn(null), hyperparameters: { ...hyperparameters, n_epochs: 50 } });
    await once(child, 'message');
    child.disconnect();
    const [code] = await once(child, 'exit');
    expect(code).toBe(1);
  });

  it('says server_error for a bug, and where it was on stderr', async () => {
    const { child, events } = start(goOn('/nowhere'));
    let stderr = '';
    child.stderr!.on('data', chunk => {
      stderr += chunk;
    });
    const [code] = await once(child, 'exit');
    expect(code).toBe(1);
    expect(events.at(-1)).toEqual({
      type: 'failed',
      code: 'server_error',
      param: null,
      message: 'The job failed due to an internal error',
    });
    expect(stderr).toContain('/nowhere');
    rmSync(unbroken.spec.workDirectory, { recursive: true, force: true });
  });
});
