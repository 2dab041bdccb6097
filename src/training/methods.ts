// Which methods a model can be trained by, as far as its row tells. What a method learns is objectives.ts'.
import { type ArchitectureName, KINDS, type ModelKind } from '../models/architecture.ts';
import type { MethodName } from './protocol.ts';

const OF_KIND: Record<ModelKind, readonly MethodName[]> = {
  causal: ['supervised', 'dpo', 'reinforcement', 'classification', 'regression', 'embedding'],
  encoder: ['classification', 'regression', 'embedding'],
  'encoder-decoder': ['supervised', 'classification', 'regression'],
};

/** They need a head; `transformers` has none for these. */
const WITH_HEAD: readonly MethodName[] = ['classification', 'regression'];
const WITHOUT_HEADS: readonly ArchitectureName[] = ['marian'];

/** They need tokens as outputs, which a model with a head has lost. */
const WITH_TOKENS: readonly MethodName[] = ['supervised', 'dpo', 'reinforcement'];

export interface KnownModel {
  /** Its architecture's name; what is not known here is not judged. */
  readonly architecture: string;
  readonly isAdapter: boolean;
  /** What it was trained by; null for a base model, or where nobody knows. */
  readonly trainedBy: MethodName | null;
}

const isKnown = (name: string): name is ArchitectureName => Object.hasOwn(KINDS, name);

/** Null where the row does not tell. */
export function methodsFor({ architecture, isAdapter, trainedBy }: KnownModel): readonly MethodName[] | null {
  if (!isKnown(architecture)) return null;
  const all = OF_KIND[KINDS[architecture]];
  if (WITHOUT_HEADS.includes(architecture)) return all.filter(method => !WITH_HEAD.includes(method));
  if (trainedBy === null || !WITH_HEAD.includes(trainedBy)) return all;
  // A head that lies in an adapter's folder goes wherever the adapter goes.
  return isAdapter ? WITH_HEAD : all.filter(method => !WITH_TOKENS.includes(method));
}
