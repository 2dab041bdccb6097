// Which methods a model can be trained by, and what it answers with, as far as its row tells. What a method learns is objectives.ts'.
import { type ArchitectureName, KINDS, type ModelKind } from '../models/architecture.ts';
import type { MethodName } from './protocol.ts';

const OF_KIND: Record<ModelKind, readonly MethodName[]> = {
  causal: ['supervised', 'dpo', 'reinforcement', 'classification', 'regression', 'embedding'],
  encoder: ['classification', 'regression', 'embedding'],
  'encoder-decoder': ['supervised', 'classification', 'regression'],
};

/** They leave a head. */
const WITH_HEAD: readonly MethodName[] = ['classification', 'regression'];

/** They need token outputs, which a model with a head does not have. */
const WITH_TOKENS: readonly MethodName[] = ['supervised', 'dpo', 'reinforcement'];

/** Text that it goes on with, classes or numbers of whole texts, nothing but vectors. */
export type Answers = 'text' | 'classes' | 'vectors';

const ALL_ANSWERS: readonly Answers[] = ['text', 'classes', 'vectors'];

export interface KnownModel {
  /** Its architecture's name; what is not known here is not judged. */
  readonly architecture: string;
  /** What its files answer with, or those of the base that it was trained from; null where nobody has looked. */
  readonly answers: Answers | null;
  /** What it was trained by; null for a base model, or where nobody knows. */
  readonly trainedBy: MethodName | null;
}

const isKnown = (name: string): name is ArchitectureName => Object.hasOwn(KINDS, name);

/** Whatever it may be; one, but for a model that was registered when nobody looked. */
export function answersOf({ architecture, answers, trainedBy }: KnownModel): readonly Answers[] {
  if (trainedBy !== null && WITH_HEAD.includes(trainedBy)) return ['classes'];
  const ofFiles = answers ? [answers] : answersOfKind(architecture);
  // The head for classes is not trained along.
  return trainedBy === 'embedding' && !ofFiles.includes('text') ? ['vectors'] : ofFiles;
}

function answersOfKind(architecture: string): readonly Answers[] {
  if (!isKnown(architecture)) return ALL_ANSWERS;
  return KINDS[architecture] === 'encoder' ? ['classes', 'vectors'] : ALL_ANSWERS;
}

/** Null where the row does not tell. */
export function methodsFor(
  model: KnownModel & { readonly isAdapter: boolean },
): readonly MethodName[] | null {
  const { architecture, isAdapter, trainedBy } = model;
  if (!isKnown(architecture)) return null;
  const all = OF_KIND[KINDS[architecture]];
  // A head that lies in an adapter's folder goes wherever the adapter goes.
  if (isAdapter && trainedBy !== null && WITH_HEAD.includes(trainedBy)) return WITH_HEAD;
  return answersOf(model).includes('text') ? all : all.filter(method => !WITH_TOKENS.includes(method));
}
