"""Tiny random models without tokenizers, one for everything that configs of the served architectures can differ in."""
import json

import torch
import transformers
from chat_models import randomize, write_json
from safetensors.torch import load_file, save_file

VOCAB = 96
LLAMA = dict(
    vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=4, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
)
GROUPED = {**LLAMA, "num_key_value_heads": 2}
GPT2 = dict(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2)


def rope(kind, **more):
    return {"rope_theta": 10000.0, "rope_type": kind, **more}


LLAMA3_ROPE = rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)


def old_spelling(folder):
    """The config as transformers 4 wrote it: rope_theta, rope_scaling, torch_dtype."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    scaling = config.pop("rope_parameters", {})
    config["rope_theta"] = scaling.pop("rope_theta")
    kind = scaling.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {"type": kind, **scaling}
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.36.0"
    config.pop("head_dim", None)
    write_json(path, config)


def old_gpt2_names(folder):
    """As the published `gpt2` is: no prefix, and the causal mask among the tensors."""
    path = folder / "model.safetensors"
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    for layer in range(2):
        tensors[f"h.{layer}.attn.bias"] = torch.tril(torch.ones(64, 64))[None, None]
    save_file(tensors, path, metadata={"format": "pt"})


def with_buffers(folder):
    """Llama files of 2023 carry the rotary frequencies."""
    old_spelling(folder)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for layer in range(2):
        tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(tensors, path, metadata={"format": "pt"})


def causal(model_class, config_class, settings, *, after=None, dtype=torch.float32, **saving):
    def make(folder, seed):
        model = model_class(config_class(**settings))
        randomize(model, seed)
        model.to(dtype).save_pretrained(folder, **saving)
        if after:
            after(folder)
    return make


def llama(settings, **more):
    return causal(transformers.LlamaForCausalLM, transformers.LlamaConfig, settings, **more)


def old_neox(folder):
    """As the Pythia models are published: other names of fields and of the output projection, and buffers."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rotary = config.pop("rope_parameters")
    config |= {"rotary_emb_base": rotary["rope_theta"], "rotary_pct": rotary["partial_rotary_factor"]}
    config["torch_dtype"] = config.pop("dtype")
    write_json(path, config)
    path = folder / "model.safetensors"
    tensors = {name.replace("lm_head", "embed_out"): tensor for name, tensor in load_file(path).items()}
    for layer in range(2):
        prefix = f"gpt_neox.layers.{layer}.attention"
        tensors[f"{prefix}.bias"] = torch.tril(torch.ones(64, 64))[None, None]
        tensors[f"{prefix}.masked_bias"] = torch.tensor(-1e9)
        tensors[f"{prefix}.rotary_emb.inv_freq"] = torch.ones(1)
    save_file(tensors, path, metadata={"format": "pt"})


NEOX = dict(
    vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
)
FALCON = dict(
    vocab_size=VOCAB, hidden_size=32, ffn_hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
)
GEMMA = {
    **GROUPED, "head_dim": 12, "query_pre_attn_scalar": 20, "sliding_window": 6, "pad_token_id": 0,
    "final_logit_softcapping": 1.5,
}
GEMMA3_ROPE = {"full_attention": rope("linear", factor=8.0) | {"rope_theta": 1e6}, "sliding_attention": rope("default")}
PHI3 = {**GROUPED, "pad_token_id": 0}
LONGROPE = rope(
    "longrope", short_factor=[1.0, 1.5], long_factor=[2.0, 8.0], original_max_position_embeddings=32,
    partial_rotary_factor=0.5,
)
COHERE = {**GROUPED, "pad_token_id": 0, "logit_scale": 0.25}


def old_gemma3(folder):
    """The config as transformers 4 wrote it: a theta for each kind of layer, and how often the full ones come."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    kinds = config.pop("rope_parameters")
    config |= {
        "rope_theta": kinds["full_attention"]["rope_theta"],
        "rope_local_base_freq": kinds["sliding_attention"]["rope_theta"],
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "sliding_window_pattern": 2,
        "torch_dtype": config.pop("dtype"),
    }
    config.pop("layer_types")
    write_json(path, config)


VARIANTS = {
    "llama2": llama({**LLAMA, "tie_word_embeddings": False}, after=with_buffers),
    "llama3": llama({**GROUPED, "rope_parameters": LLAMA3_ROPE, "tie_word_embeddings": True}),
    "llama-linear": llama({**GROUPED, "rope_parameters": rope("linear", factor=4.0)}, after=old_spelling),
    "llama-bias": llama({**GROUPED, "attention_bias": True, "mlp_bias": True, "head_dim": 12}),
    "llama-bf16-sharded": llama({**GROUPED}, dtype=torch.bfloat16, max_shard_size="20KB"),
    "llama-f16": llama({**GROUPED, "tie_word_embeddings": True}, dtype=torch.float16),
    "mistral": causal(transformers.MistralForCausalLM, transformers.MistralConfig, {**GROUPED, "sliding_window": 6}),
    "qwen2": causal(transformers.Qwen2ForCausalLM, transformers.Qwen2Config, {
        **GROUPED, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1, "tie_word_embeddings": True,
    }),
    "qwen3": causal(transformers.Qwen3ForCausalLM, transformers.Qwen3Config, {
        **GROUPED, "head_dim": 16, "tie_word_embeddings": True,
    }),
    "gpt2": causal(transformers.GPT2LMHeadModel, transformers.GPT2Config, GPT2, after=old_gpt2_names),
    "gpt2-scaled": causal(transformers.GPT2LMHeadModel, transformers.GPT2Config, {
        **GPT2, "n_inner": 48, "scale_attn_by_inverse_layer_idx": True, "tie_word_embeddings": False,
    }),
    "gpt-neox": causal(transformers.GPTNeoXForCausalLM, transformers.GPTNeoXConfig, NEOX, after=old_neox),
    "gpt-neox-serial": causal(transformers.GPTNeoXForCausalLM, transformers.GPTNeoXConfig, {
        **NEOX, "use_parallel_residual": False, "attention_bias": False, "hidden_act": "gelu_fast",
        "rope_parameters": {**rope("default"), "partial_rotary_factor": 1.0},
    }),
    "falcon-7b": causal(transformers.FalconForCausalLM, transformers.FalconConfig, FALCON),
    "falcon-40b": causal(transformers.FalconForCausalLM, transformers.FalconConfig, {
        **FALCON, "new_decoder_architecture": True, "num_kv_heads": 2,
    }),
    "falcon-11b": causal(transformers.FalconForCausalLM, transformers.FalconConfig, {
        **FALCON, "new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1,
        "tie_word_embeddings": False,
    }),
    "falcon-serial": causal(transformers.FalconForCausalLM, transformers.FalconConfig, {
        **FALCON, "multi_query": False, "parallel_attn": False, "bias": True,
    }),
    "mixtral": causal(transformers.MixtralForCausalLM, transformers.MixtralConfig, {
        **GROUPED, "intermediate_size": 24, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 6,
    }),
    "gemma2": causal(transformers.Gemma2ForCausalLM, transformers.Gemma2Config, {
        **GEMMA, "attn_logit_softcapping": 1.0,
    }),
    "gemma3": causal(transformers.Gemma3ForCausalLM, transformers.Gemma3TextConfig, {
        **GEMMA, "rope_parameters": GEMMA3_ROPE, "num_hidden_layers": 2, "sliding_window_pattern": 2,
        "final_logit_softcapping": None,
    }, after=old_gemma3),
    "phi3": causal(transformers.Phi3ForCausalLM, transformers.Phi3Config, {**PHI3, "sliding_window": 6}),
    "phi3-longrope": causal(transformers.Phi3ForCausalLM, transformers.Phi3Config, {
        **PHI3, "rope_parameters": LONGROPE, "original_max_position_embeddings": 32, "tie_word_embeddings": True,
    }),
    "cohere": causal(transformers.CohereForCausalLM, transformers.CohereConfig, COHERE),
    "cohere-normed": causal(transformers.CohereForCausalLM, transformers.CohereConfig, {
        **COHERE, "use_qk_norm": True, "attention_bias": True, "logit_scale": 1.5,
    }),
}
