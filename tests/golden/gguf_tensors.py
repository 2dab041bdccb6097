"""What llama.cpp's own converter makes of the tiny models of this folder: names, shapes and hashes of tensors, and metadata.

Run: python tests/golden/gguf_tensors.py LLAMA_CPP, a folder with llama.cpp's `conversion` and `gguf-py`. Writes gguf-tensors.json.
Made with llama.cpp as llama-cpp-python 0.3.36 has it, torch 2.13, transformers 5.23. Numbers are written as float32.
The models of VARIANTS have no tokenizer: their settings and tensors are compared alone, those of WHOLE with their vocabularies.
"""
import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
LLAMA_CPP = Path(sys.argv[1])
sys.path[:0] = [str(LLAMA_CPP), str(LLAMA_CPP / "gguf-py")]

import gguf  # noqa: E402
import torch  # noqa: E402
from conversion import ModelType, get_model_architecture, get_model_class  # noqa: E402
from conversion.base import ModelBase  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

# Changes to a config.json where llama.cpp has no such model as the folder's, or where its converter wants a field that is a default.
GEMMA = {"query_pre_attn_scalar": 12}
# llama.cpp reads no fewer than 256 tokens at once, and takes the factors of long texts for them.
LONG = {"max_position_embeddings": 1024, "original_max_position_embeddings": 512, "rope_parameters": {
    **json.loads((HERE / "phi3-longrope/config.json").read_text())["rope_parameters"], "original_max_position_embeddings": 512}}
VARIANTS = {
    "llama2": {}, "llama3": {}, "llama-linear": {}, "llama-bias": {}, "mistral": {}, "qwen2": {}, "qwen3": {}, "mixtral": {},
    "gemma2": GEMMA, "gemma3": {**GEMMA, "sliding_window_pattern": 6}, "phi3": {}, "phi3-longrope": LONG, "cohere": {},
    "gpt2": {"n_ctx": 64}, "gpt-neox": {}, "falcon-7b": {"num_kv_heads": 1}, "falcon-40b": {}, "falcon-11b": {},
}
WHOLE = {"llama-tiny": HERE / "llama-tiny", "gpt2-tiny": HERE / "gpt2-tiny", "anneal-tiny": HERE / "../../models/anneal-tiny"}


def drop_buffers(file):
    """The causal masks of GPT-2, which the converter stumbles over."""
    tensors = load_file(file)
    save_file({name: data for name, data in tensors.items() if not name.endswith((".attn.bias", ".attn.masked_bias"))}, file, {"format": "pt"})


def convert(folder, config, with_vocabulary):
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model"
        shutil.copytree(folder, model)
        if not with_vocabulary:
            shutil.copy(HERE / "llama-tiny/tokenizer.json", model)
        own = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**own, **config}))
        drop_buffers(model / "model.safetensors")
        made = Path(scratch) / "made.gguf"
        with torch.inference_mode():
            settings = ModelBase.load_hparams(model, False)
            made_by = get_model_class(get_model_architecture(settings, ModelType.TEXT))
            converter = made_by(model, gguf.LlamaFileType.ALL_F32, made)
            # transformers 5 renames some before the converter sees them.
            converter.hparams = {**own, **config, **converter.hparams}
            # The rule for splitting is found by the hash of a real vocabulary.
            converter.get_vocab_base_pre = lambda _: "gpt-2"
            if not with_vocabulary:
                converter.set_vocab = converter._set_vocab_none
            converter.write()
        return read(made, with_vocabulary)


def short(value):
    """Long lists by their hash."""
    if not isinstance(value, list):
        return value
    return {"count": len(value), "sha256": hashlib.sha256("\n".join(map(str, value)).encode()).hexdigest()}


def read(file, with_vocabulary):
    reader = gguf.GGUFReader(file)
    metadata = {name: short(field.contents()) for name, field in reader.fields.items() if not name.startswith(("GGUF.", "general."))}
    if not with_vocabulary:
        metadata.pop("tokenizer.ggml.model")
    metadata["general.architecture"] = reader.fields["general.architecture"].contents()
    tensors = {}
    for tensor in reader.tensors:
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32, tensor.name
        # Factors of frequencies are computed, not copied: the last bits may differ.
        computed = tensor.name.startswith("rope_")
        tensors[tensor.name] = {
            "shape": [int(size) for size in reversed(tensor.shape)],
            **({"values": tensor.data.tolist()} if computed else {"sha256": hashlib.sha256(tensor.data.tobytes()).hexdigest()}),
        }
    return {"metadata": metadata, "tensors": tensors}


made = {
    name: {"config": config, **convert(HERE / name, config, False)} for name, config in VARIANTS.items()
} | {
    name: {"config": {}, **convert(folder, {"n_ctx": 256}, True)} for name, folder in WHOLE.items()
}
(HERE / "gguf-tensors.json").write_text(json.dumps(made, ensure_ascii=False) + "\n")
