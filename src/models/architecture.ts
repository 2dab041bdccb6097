// What an architecture is: how its Hugging Face config reads, which tensors it has, and its forward pass.
// It knows nothing of LoRA, packing, caches or losses: those come in as the functions of `Layers`.
import type { Tensor } from '@tensorflow/tfjs';

/** A projection that an adapter may target. `weight` is its tensor in the safetensors files. */
export interface LinearLayer {
  /** Module path as PEFT spells it, without `.weight`: `model.layers.0.self_attn.q_proj`. */
  readonly name: string;
  readonly weight: string;
  readonly bias: string | null;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** True where the file holds [in, out] (GPT-2's Conv1D) instead of [out, in]. PEFT: `fan_in_fan_out`. */
  readonly transposed: boolean;
  /** Its input is as long as the source: of an encoder before a decoder, and of what the decoder asks it. Absent: no. */
  readonly ofSource?: boolean;
}

/** What a model's hidden states are of: what comes before a token, the whole text, or the whole of one text and what comes before in another. */
export type ModelKind = 'causal' | 'encoder' | 'encoder-decoder';

/** Every architecture's, for those who know a model by the name of its architecture alone. */
export const KINDS = {
  llama: 'causal',
  gpt2: 'causal',
  'gpt-neox': 'causal',
  falcon: 'causal',
  mixtral: 'causal',
  gemma: 'causal',
  phi3: 'causal',
  cohere: 'causal',
  bert: 'encoder',
  distilbert: 'encoder',
  modernbert: 'encoder',
  t5: 'encoder-decoder',
  bart: 'encoder-decoder',
  marian: 'encoder-decoder',
} as const satisfies Record<string, ModelKind>;

export type ArchitectureName = keyof typeof KINDS;

export interface Attention {
  readonly layer: number;
  /** query [rows, heads, length, headDim]; key and value [rows, kvHeads, length, headDim], rotary already applied. */
  readonly query: Tensor;
  readonly key: Tensor;
  readonly value: Tensor;
  readonly scale: number;
  /** How many positions back a token sees, itself included; null: all. */
  readonly window: number | null;
  /** A token sees as far ahead as back; absent: nothing ahead. */
  readonly bothWays?: boolean;
  /** Scores are kept within (-softcap, softcap); absent or null: as they are. */
  readonly softcap?: number | null;
  /**
   * Added to the scores by how far behind (-) or ahead (+) of the query a key lies: int32 [rows or 1, length, keys] ->
   * [rows or 1, heads, length, keys]. Layers that share a bias give the same function.
   */
  readonly bias?: (offsets: Tensor) => Tensor;
}

/** A decoder's attention to the text that the encoder has read. */
export interface SourceAttention {
  readonly layer: number;
  /** [rows, heads, length, headDim] */
  readonly query: Tensor;
  readonly scale: number;
  /** The encoder's states [rows, sourceLength, hiddenSize] -> [rows, kvHeads, sourceLength, headDim] each. */
  read(states: Tensor): { key: Tensor; value: Tensor };
}

/** What a forward pass is run with. Training, prefill and decoding differ only here. */
export interface Layers {
  weight(name: string): Tensor;
  /** x [..., in] -> [..., out], bias and adapter included. */
  linear(name: string, x: Tensor): Tensor;
  /** Once a layer -> [rows, heads, length, headDim]; who sees whom is the caller's to decide. */
  attend(attention: Attention): Tensor;
  /** Once a decoder's layer -> [rows, heads, length, headDim]; `read` is asked only where it was not before. Absent without an encoder. */
  attendSource?(attention: SourceAttention): Tensor;
}

/** Of an encoder-decoder: its decoder's. */
export interface ModelShape {
  readonly layers: number;
  readonly hiddenSize: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabSize: number;
  readonly maxPositions: number;
}

export interface Architecture<Config = unknown> {
  readonly name: ArchitectureName;
  readonly kind: ModelKind;
  /** `config.json`'s `architectures` entries that this file serves, e.g. `LlamaForCausalLM`. */
  readonly serves: readonly string[];
  /** `served` is the entry of `serves`. Throws ModelError naming the field when the config asks for something that is not served. */
  readConfig(json: Readonly<Record<string, unknown>>, served: string): Config;
  /** Settings that only the names of the tensors in the files tell. */
  withTensors?(config: Config, names: ReadonlySet<string>): Config;
  shape(config: Config): ModelShape;
  /** Every tensor that must be in the files, with its shape. */
  tensors(config: Config): Record<string, readonly number[]>;
  /** A name as files spell it -> as `tensors` does; null for harmless surplus (buffers). */
  canonicalName(config: Config, name: string): string | null;
  /** Further names under which files may hold a tensor once more: theirs -> its own. */
  copies?(config: Config): Record<string, string>;
  /** Whether a tensor, by its canonical name, is of a task's head that files may have and that is not computed here. */
  isHead?(config: Config, name: string): boolean;
  linearLayers(config: Config): LinearLayer[];
  /**
   * tokens and positions [rows, length] int32 -> last hidden states, after the final norm [rows, length, hiddenSize].
   * A factor that the logits have is in them. Of an encoder-decoder: the decoder's.
   */
  hidden(config: Config, tokens: Tensor, positions: Tensor, layers: Layers): Tensor;
  /** Encoder-decoders: tokens and positions of the source [rows, length] int32 -> the encoder's states [rows, length, hiddenSize]. */
  encode?(config: Config, tokens: Tensor, positions: Tensor, layers: Layers): Tensor;
  /** Name of the output projection's weight [vocab, hidden] (the embedding where tied); null where no tokens are predicted. */
  outputWeight(config: Config): string | null;
  /** Logits are kept within (-softcap, softcap); absent or null: as they are. */
  logitSoftcap?(config: Config): number | null;
  /** Name of a tensor [1, vocab] that is added to the logits and never trained; absent or null: none. */
  logitBias?(config: Config): string | null;
}
