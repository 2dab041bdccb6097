// Reference values: what the model computes for every example at the start of a run, for objectives that stay close to
// it. Measured once, and appended to each example's values.
import type { Dataset } from '../data/dataset.ts';
import type { Example } from '../data/example-form.ts';
import type { Trainer } from './trainer.ts';

/** Examples packed together. */
const LOT = 64;

function* lotsOf(dataset: Dataset): Generator<Example[]> {
  for (let start = 0; start < dataset.count; start += LOT) {
    const size = Math.min(LOT, dataset.count - start);
    yield Array.from({ length: size }, (_, i) => dataset.read(start + i));
  }
}

/** The dataset with the reference appended to each example's values. */
export async function withReference(
  trainer: Trainer,
  dataset: Dataset,
  parameters: Float32Array,
): Promise<Dataset> {
  const start = await trainer.openReference(parameters);
  const reference: number[] = [];
  for (const examples of lotsOf(dataset))
    reference.push(...(await start.measure(examples)).map(places => places[0]!));
  await start.close();
  return {
    ...dataset,
    read(index) {
      const example = dataset.read(index);
      return { ...example, values: [...Array.from(example.values), reference[index]!] };
    },
  };
}
