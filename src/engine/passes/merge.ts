// Common subexpression elimination: computes once what a graph computes several times from the same inputs.

import { type Graph, rewrite, type Value } from '../graph.ts';
import type { HostArray } from '../program.ts';

/** Only constants up to this many elements are compared; larger ones are rarely equal. */
const COMPARED_NUMBERS = 4096;

export function mergeEqual(graph: Graph): Graph {
  const ids = new Map<Value, number>();
  const known = new Map<string, readonly Value[]>();
  const constants = equalConstants(graph);
  const idOf = (value: Value): number => {
    const id = ids.get(value) ?? ids.size;
    ids.set(value, id);
    return id;
  };
  return rewrite(graph, ({ op, inputs, outputs, attributes }, builder) => {
    const firsts = inputs.map(input => constants.get(input) ?? input);
    const key = `${op}(${firsts.map(idOf)}) ${JSON.stringify(attributes, exactly)} ${outputs.map(({ shape }) => `[${shape}]`)}`;
    const before = known.get(key);
    if (before) return before;
    known.set(key, outputs);
    builder.push({ op, inputs: firsts, outputs, attributes });
    return outputs;
  });
}

/** JSON knows neither infinities nor -0. */
const exactly = (_key: string, value: unknown): unknown =>
  typeof value === 'number' && (!Number.isFinite(value) || Object.is(value, -0))
    ? `${Object.is(value, -0) ? '-0' : value}`
    : value;

/** Maps each constant that equals an earlier one to that one. */
function equalConstants(graph: Graph): Map<Value, Value> {
  const firsts = new Map<string, Value>();
  const equal = new Map<Value, Value>();
  for (const [value, data] of graph.constants) {
    if (data.length > COMPARED_NUMBERS) continue;
    const key = keyOf(value, data);
    const first = firsts.get(key);
    if (first) equal.set(value, first);
    else firsts.set(key, value);
  }
  return equal;
}

/** Bit for bit: 0 and -0 are two constants. */
const keyOf = ({ shape, dtype }: Value, data: HostArray): string =>
  `${dtype} [${shape}] ${Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('latin1')}`;
