// Trained numbers that stay on a device: a memory of its own over the processor's engine, and the devices that this machine has. Steps are
// those of numbers in host memory, nothing but batches and losses moves in between, and no step takes memory.
import { beforeAll, describe, expect, it } from 'vitest';
import { rowLengths } from '../../src/data/example-form.ts';
import type { Engine } from '../../src/engine/program.ts';
import { planBatch } from '../../src/training/layout.ts';
import type { OptimizerState } from '../../src/training/optimizer.ts';
import type { StepResult, Trainer } from '../../src/training/trainer.ts';
import { counted, withMemory } from '../engine/device.ts';
import { enginesUnderTest } from '../engine/engines.ts';
import { relativeDifference } from '../models/golden.ts';
import { type GoldenRun, openGolden, readTrajectory, unpack } from './golden-run.ts';

const examples = readTrajectory('gpt2', 'lora')
  .batches.flatMap(batch => unpack(batch))
  .slice(0, 8);
const SHAPES = [{ rows: 2, length: 32 }];
const GOLDEN = { model: 'gpt2', shapes: SHAPES } as const;

const [onnx, ...others] = await enginesUnderTest();
const devices = [
  { name: 'onnx with a memory of its own', engine: withMemory(onnx!) },
  ...others
    .filter(({ memory }) => memory)
    .map(engine => ({ name: `${engine.name} on ${engine.device}`, engine })),
];

const open = (engine: Engine, golden: Pick<GoldenRun, 'kind' | 'state'>) =>
  openGolden({ ...GOLDEN, engine, ...golden });

const planOf = ({ trained }: Trainer, shapes = SHAPES) =>
  planBatch(rowLengths(trained.objective.form, examples), shapes, { hiddenSize: 32 });

function takeStep(trainer: Trainer, step: number, shapes = SHAPES): Promise<StepResult> {
  return trainer.takeStep(planOf(trainer, shapes), examples, {
    step,
    learningRate: 1e-3,
    weightDecay: 0.1,
    maxGradNorm: 0.5,
    seed: 3,
  });
}

interface Taken {
  readonly steps: StepResult[];
  readonly state: OptimizerState;
}

const copyOf = ({ parameters, m, v }: OptimizerState): OptimizerState => ({
  parameters: parameters.slice(),
  m: m.slice(),
  v: v.slice(),
});

async function run(
  engine: Engine,
  golden: Pick<GoldenRun, 'kind' | 'state'>,
  from: number,
  to: number,
): Promise<Taken> {
  const trainer = await open(engine, golden);
  const steps: StepResult[] = [];
  for (let step = from; step <= to; step++) steps.push(await takeStep(trainer, step));
  const state = copyOf(await trainer.readState());
  await trainer.close();
  return { steps, state };
}

/** By a step whose numbers lie in host memory. */
async function movedFromHost(engine: Engine, kind: GoldenRun['kind']): Promise<number> {
  const { engine: counting, traffic } = counted({ ...engine, memory: undefined });
  const trainer = await open(counting, { kind });
  await takeStep(trainer, 1);
  await trainer.close();
  return traffic.movedBytes;
}

describe.each(devices)('training by $name', { timeout: 120_000 }, ({ engine }) => {
  describe.each(['lora', 'full'] as const)('%s', kind => {
    let whole: Taken;
    beforeAll(async () => {
      whole = await run(engine, { kind }, 1, 4);
    });

    it('takes the steps of the processor', async () => {
      const expected = await run(onnx!, { kind }, 1, 4);
      for (const [index, { loss, gradientNorm, weight, score }] of whole.steps.entries()) {
        const step = expected.steps[index]!;
        expect({ weight, score }).toEqual({ weight: step.weight, score: step.score });
        expect(Math.abs(loss / step.loss - 1), `loss ${index + 1}`).toBeLessThan(1e-5);
        expect(Math.abs(gradientNorm / step.gradientNorm - 1), `norm ${index + 1}`).toBeLessThan(1e-4);
      }
      for (const numbers of ['parameters', 'm', 'v'] as const)
        expect(relativeDifference(whole.state[numbers], expected.state[numbers]), numbers).toBeLessThan(1e-4);
    });

    it('goes on from what was read with the same bits', async () => {
      const first = await run(engine, { kind }, 1, 2);
      const rest = await run(engine, { kind, state: first.state }, 3, 4);
      expect([...first.steps, ...rest.steps]).toEqual(whole.steps);
      expect(rest.state).toEqual(whole.state);
    });

    it('moves batches and losses, and takes no memory after the start', async ({ annotate }) => {
      const { engine: counting, traffic } = counted(engine);
      const trainer = await open(counting, { kind });
      const { size } = trainer.trained.state;
      await takeStep(trainer, 1);
      const held = traffic.live.size;
      traffic.movedBytes = 0;
      for (let step = 2; step <= 4; step++) await takeStep(trainer, step);
      const perStep = traffic.movedBytes / 3;
      await annotate(
        `${perStep} bytes moved by a step; ${await movedFromHost(engine, kind)} from host memory`,
      );
      expect(traffic.live.size).toBe(held);
      // Tokens, targets, positions and segments of a micro-batch are 4 bytes each; losses, the norm and factors are single numbers.
      const slots = trainer.trained.state.slots.length;
      expect(perStep).toBeLessThanOrEqual(planOf(trainer).length * (4 * 4 * 64 + 16) + slots * 16 + 4);

      const start = await trainer.openReference(new Float32Array(size));
      expect(traffic.live.size).toBe(held + slots);
      await start.close();
      expect(traffic.live.size).toBe(held);
      traffic.movedBytes = 0;
      await trainer.readState();
      expect(traffic.movedBytes).toBeLessThanOrEqual(3 * 4 * size);
      await trainer.close();
      expect(traffic.live.size).toBe(0);
    });
  });

  it('gives the same step in eight micro-batches of one row as in one of eight', async () => {
    const stepIn = async (shapes: typeof SHAPES) => {
      const trainer = await open(engine, { kind: 'full' });
      const result = await takeStep(trainer, 1, shapes);
      const { m } = copyOf(await trainer.readState());
      await trainer.close();
      return { ...result, m };
    };
    const [one, eight] = [await stepIn([{ rows: 8, length: 24 }]), await stepIn([{ rows: 1, length: 24 }])];
    expect(eight.loss / one.loss).toBeCloseTo(1, 5);
    expect(eight.gradientNorm / one.gradientNorm).toBeCloseTo(1, 5);
    expect(relativeDifference(eight.m, one.m)).toBeLessThan(1e-5);
  });
});
