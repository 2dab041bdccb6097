// The interface of an architecture: how its Hugging Face config is read, which tensors it has, and its forward pass. It
// knows nothing of LoRA, packing, caches or losses: those come in as the functions of `Layers`.
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
  /**
   * Its input has the source's length: layers of the encoder, and the decoder's key and value projections of
   * cross-attention. Default: no.
   */
  readonly ofSource?: boolean;
}

/**
 * What a hidden state depends on: the preceding tokens (causal), the whole text (encoder), or the whole source and the
 * preceding tokens (encoder-decoder).
 */
export type ModelKind = 'causal' | 'encoder' | 'encoder-decoder';

/** The kind of every architecture, by its name. */
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
  /** Sliding window: how many positions back a token sees, itself included; null: all. */
  readonly window: number | null;
  /** Bidirectional attention: a token sees as far ahead as back. Default: nothing ahead. */
  readonly bothWays?: boolean;
  /** Limits the scores to (-softcap, softcap); absent or null: no limit. */
  readonly softcap?: number | null;
  /**
   * Bias added to the scores by the offset of key from query (negative: behind): int32 [rows or 1, length, keys] ->
   * [rows or 1, heads, length, keys]. Layers that share a bias pass the same function.
   */
  readonly bias?: (offsets: Tensor) => Tensor;
}

/** Cross-attention: a decoder's attention to the encoder's states. */
export interface SourceAttention {
  readonly layer: number;
  /** [rows, heads, length, headDim] */
  readonly query: Tensor;
  readonly scale: number;
  /** The encoder's states [rows, sourceLength, hiddenSize] -> [rows, kvHeads, sourceLength, headDim] each. */
  read(states: Tensor): { key: Tensor; value: Tensor };
}

/** What a forward pass runs with. Training, prefill and decoding differ only here. */
export interface Layers {
  weight(name: string): Tensor;
  /** x [..., in] -> [..., out], bias and adapter included. */
  linear(name: string, x: Tensor): Tensor;
  /** Called once per layer -> [rows, heads, length, headDim]. The implementation decides which tokens see which. */
  attend(attention: Attention): Tensor;
  /**
   * Called once per decoder layer -> [rows, heads, length, headDim]; `read` is called only if its result is not cached.
   * Absent without an encoder.
   */
  attendSource?(attention: SourceAttention): Tensor;
}

/** For an encoder-decoder: the shape of its decoder. */
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
  /** The `architectures` entries of config.json that this file implements, e.g. `LlamaForCausalLM`. */
  readonly serves: readonly string[];
  /**
   * `served` is the matching entry of `serves`. Throws ModelError naming the field when the config asks for something
   * unsupported.
   */
  readConfig(json: Readonly<Record<string, unknown>>, served: string): Config;
  /** Completes the config with what only the names of the tensors in the files tell. */
  withTensors?(config: Config, names: ReadonlySet<string>): Config;
  shape(config: Config): ModelShape;
  /** Every tensor that the files must contain, with its shape. */
  tensors(config: Config): Record<string, readonly number[]>;
  /** Maps a name in the files to its name in `tensors`; null for tensors to ignore (buffers). */
  canonicalName(config: Config, name: string): string | null;
  /** Alternative names under which files may contain a tensor again: alias -> name. */
  copies?(config: Config): Record<string, string>;
  /**
   * Whether a tensor, by its canonical name, belongs to a task head that files may contain and that is not computed
   * here.
   */
  isHead?(config: Config, name: string): boolean;
  linearLayers(config: Config): LinearLayer[];
  /**
   * tokens and positions [rows, length] int32 -> last hidden states after the final norm [rows, length, hiddenSize],
   * including any scale of the logits. For an encoder-decoder: those of the decoder.
   */
  hidden(config: Config, tokens: Tensor, positions: Tensor, layers: Layers): Tensor;
  /** Encoder-decoders: tokens and positions of the source [rows, length] int32 -> the encoder's states [rows, length, hiddenSize]. */
  encode?(config: Config, tokens: Tensor, positions: Tensor, layers: Layers): Tensor;
  /**
   * Name of the output projection's weight [vocab, hidden] (the embedding if tied); null for models that predict no
   * tokens.
   */
  outputWeight(config: Config): string | null;
  /** Limits the logits to (-softcap, softcap); absent or null: no limit. */
  logitSoftcap?(config: Config): number | null;
  /** Name of a tensor [1, vocab] that is added to the logits and never trained; absent or null: none. */
  logitBias?(config: Config): string | null;
}
