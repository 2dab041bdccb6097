// Chooses where to cut a forward pass into segments for recomputation: where few bytes are alive, so that little is
// kept, and often enough that each segment is small.
import { sizeOf } from '../arrays.ts';
import type { Node, Value } from '../graph.ts';

interface Life {
  readonly value: Value;
  readonly bytes: number;
  /** Indices of the node that makes it and of the last node that reads it. */
  readonly made: number;
  readonly read: number;
}

function livesOf(nodes: readonly Node[]): Life[] {
  const made = new Map<Value, number>();
  const read = new Map<Value, number>();
  nodes.forEach(({ inputs, outputs }, at) => {
    for (const input of inputs) read.set(input, at);
    for (const output of outputs) made.set(output, at);
  });
  return Array.from(made, ([value, at]) => ({
    value,
    bytes: sizeOf(value.shape) * (value.dtype === 'bool' ? 1 : 4),
    made: at,
    read: read.get(value) ?? at,
  }));
}

/** Values made before a cut and read after it. A cut is the index of the node it stands before. */
export function valuesAcross(cuts: readonly number[], nodes: readonly Node[]): Set<Value> {
  const across = ({ made, read }: Life) => cuts.some(cut => made < cut && cut <= read);
  return new Set(
    livesOf(nodes)
      .filter(across)
      .map(({ value }) => value),
  );
}

/** Bytes alive before each node. */
function aliveBefore(nodes: readonly Node[], lives: readonly Life[]): number[] {
  const changes = new Array<number>(nodes.length + 1).fill(0);
  for (const { bytes, made, read } of lives) {
    changes[made + 1]! += bytes;
    changes[read + 1]! -= bytes;
  }
  let alive = 0;
  return nodes.map((_, at) => {
    alive += changes[at]!;
    return alive;
  });
}

/**
 * Long rows have thousands, most of them within one layer's attention. Trying all pairs of this many takes a second.
 */
const MOST_PLACES = 1000;

/**
 * Local minima of the bytes alive, plus both ends. If there are too many, only those no wider than both neighbours,
 * repeatedly.
 */
function narrowPlaces(nodes: readonly Node[], lives: readonly Life[]): number[] {
  const alive = aliveBefore(nodes, lives);
  const isNarrow = (at: number) => alive[at]! <= alive[at - 1]! && alive[at]! < (alive[at + 1] ?? 0);
  let places = alive.flatMap((_, at) => (at > 0 && isNarrow(at) ? [at] : []));
  while (places.length > MOST_PLACES) {
    const widthOf = (i: number) => alive[places[i]!] ?? Number.POSITIVE_INFINITY;
    const narrowest = places.filter((_, i) => widthOf(i) <= Math.min(widthOf(i - 1), widthOf(i + 1)));
    if (narrowest.length === places.length) break;
    places = narrowest;
  }
  return [0, ...places, nodes.length];
}

/**
 * For the segment that ends at a cut, by the place it begins at: bytes that the cut keeps, and bytes that gradients
 * need of the rest.
 */
interface Costs {
  readonly kept: readonly number[];
  readonly inside: readonly number[];
}

/** Sums of what is made from each place on. */
function sumsFrom(places: readonly number[], made: Float64Array): number[] {
  const sums = new Array<number>(places.length).fill(0);
  for (let i = places.length - 2; i >= 0; i--) {
    sums[i] = sums[i + 1]!;
    for (let at = places[i]!; at < places[i + 1]!; at++) sums[i]! += made[at]!;
  }
  return sums;
}

function costsBefore(
  cut: number,
  places: readonly number[],
  lives: readonly Life[],
  needed: ReadonlySet<Value>,
): Costs {
  const [kept, inside] = [new Float64Array(places.at(-1)!), new Float64Array(places.at(-1)!)];
  for (const { value, bytes, made, read } of lives) {
    if (made >= cut) continue;
    if (read >= cut) kept[made]! += bytes;
    else if (needed.has(value)) inside[made]! += bytes;
  }
  return { kept: sumsFrom(places, kept), inside: sumsFrom(places, inside) };
}

interface Cutting {
  readonly cuts: readonly number[];
  /** Total bytes kept at the cuts, and bytes of the largest segment. */
  readonly kept: number;
  readonly largest: number;
}

/**
 * The cutting that keeps least, among those whose segments have at most `bound` bytes each; null where there is none.
 */
function cutWithin(bound: number, places: readonly number[], costs: readonly Costs[]): Cutting | null {
  const best: (Cutting | null)[] = [{ cuts: [], kept: 0, largest: 0 }];
  for (let to = 1; to < places.length; to++) {
    best[to] = null;
    for (let from = 0; from < to; from++) {
      const before = best[from];
      const inside = costs[to]!.inside[from]!;
      if (!before || inside > bound) continue;
      const kept = before.kept + costs[to]!.kept[from]!;
      if (best[to] && best[to]!.kept <= kept) continue;
      best[to] = { cuts: [...before.cuts, places[to]!], kept, largest: Math.max(before.largest, inside) };
    }
  }
  const whole = best.at(-1);
  return whole ? { ...whole, cuts: whole.cuts.slice(0, -1) } : null;
}

/** Each bound tried is this fraction of the last cutting's largest segment. */
const STEP = 0.8;
/**
 * A cutting may need this much more memory than the best one if its segments are smaller: less is recomputed where more
 * is kept.
 */
const NEAR = 1.25;

/** Peak bytes: what is kept, plus a segment's values and about as many gradients of them. */
const peakOf = ({ kept, largest }: Cutting): number => kept + 2 * largest;

/** The cuts of a forward pass from which gradients read the values `needed`: those with about the lowest peak. */
export function chooseCuts(nodes: readonly Node[], needed: ReadonlySet<Value>): readonly number[] {
  const lives = livesOf(nodes);
  const places = narrowPlaces(nodes, lives);
  const costs = places.map(cut => costsBefore(cut, places, lives, needed));
  const cuttings: Cutting[] = [];
  let next = cutWithin(Number.POSITIVE_INFINITY, places, costs);
  while (next && next.largest > 0) {
    cuttings.push(next);
    next = cutWithin(next.largest * STEP, places, costs);
  }
  const least = Math.min(...cuttings.map(peakOf));
  return cuttings.findLast(cutting => peakOf(cutting) <= NEAR * least)?.cuts ?? [];
}
