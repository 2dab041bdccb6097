"""Tiny random encoders without tokenizers, and what transformers and PEFT make of them: last hidden states and gradients.

As in compute.py: float64, every example of a packed row alone. The loss is a fixed linear function of the hidden states (`probe`), so
that a gradient reaches every element of them.
"""
import json
import random
import shutil

import peft
import torch
import transformers
from chat_models import randomize, write_json
from compute import ALPHA, LAYOUTS, LENGTH, RANK, examples, float32, micro_batch, save_adapter, trained, write_numbers
from safetensors.torch import load_file, save_file
from variants import VOCAB

WIDTH = 32
BERT = dict(
    vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=64,
)
DISTILBERT = dict(vocab_size=VOCAB, dim=WIDTH, hidden_dim=48, n_layers=2, n_heads=4, max_position_embeddings=64)
MODERNBERT = {
    **BERT, "num_hidden_layers": 3, "local_attention": 6, "layer_types": None, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2,
}


def encoder(model_class, settings, *, after=None):
    def make(folder, seed):
        model = model_class(model_class.config_class(**settings))
        randomize(model, seed)
        model.save_pretrained(folder)
        if after:
            after(folder)
    return make


def old_bert_names(folder):
    """As the published `bert-base-uncased` is: gamma and beta, the MLM head's second bias, and the positions' numbers."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    spelt = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors.items()
    }
    spelt["bert.embeddings.position_ids"] = torch.arange(64).float()[None]
    save_file(spelt, path, metadata={"format": "pt"})


def prefixed(prefix):
    """The encoder alone, but as it is named inside a model with a head."""
    def after(folder):
        path = folder / "model.safetensors"
        save_file({prefix + name: tensor for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    return after


def old_modernbert(folder):
    """The config as transformers 4 wrote it: a theta for each kind of layer, and how often the full ones come."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    kinds = config.pop("rope_parameters")
    config.pop("layer_types")
    write_json(path, config | {
        "global_rope_theta": kinds["full_attention"]["rope_theta"],
        "local_rope_theta": kinds["sliding_attention"]["rope_theta"],
        "global_attn_every_n_layers": 3,
        "torch_dtype": config.pop("dtype"),
    })


ENCODERS = {
    "bert": encoder(transformers.BertForPreTraining, BERT, after=old_bert_names),
    "bert-model": encoder(transformers.BertModel, {**BERT, "hidden_act": "gelu_new", "layer_norm_eps": 1e-3}, after=prefixed("bert.")),
    "roberta": encoder(transformers.RobertaForMaskedLM, {**BERT, "pad_token_id": 1, "type_vocab_size": 1}),
    "xlm-roberta": encoder(transformers.XLMRobertaModel, {**BERT, "pad_token_id": 3, "type_vocab_size": 1}),
    "distilbert": encoder(transformers.DistilBertForSequenceClassification, DISTILBERT),
    "modernbert": encoder(transformers.ModernBertForMaskedLM, MODERNBERT, after=old_modernbert),
    "modernbert-bias": encoder(transformers.ModernBertModel, {
        **MODERNBERT, "norm_bias": True, "attention_bias": True, "mlp_bias": True,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    }),
}
FULL = {"bert", "roberta", "distilbert", "modernbert", "modernbert-bias"}


def load(folder):
    """As the class that the config names, so that names are those of the file."""
    config = json.loads((folder / "config.json").read_text())
    model_class = getattr(transformers, config["architectures"][0])
    return model_class.from_pretrained(folder, dtype=torch.float64).eval()


def load_lora(folder):
    return peft.PeftModel.from_pretrained(load(folder), folder / "adapter", is_trainable=True).double().eval()


def body(model):
    """The encoder inside whatever is wrapped around it."""
    return (model.get_base_model() if isinstance(model, peft.PeftModel) else model).base_model


def linear_names(model):
    """All linear layers of the encoder; the pooler is a head."""
    linears = {id(m) for n, m in body(model).named_modules() if isinstance(m, torch.nn.Linear) and "pooler" not in n}
    return [name for name, module in model.named_modules() if id(module) in linears]


def write_adapter(folder, seed):
    model = load(folder)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=linear_names(model), task_type="FEATURE_EXTRACTION",
    ))
    save_adapter(wrapped, folder, seed)


def hidden_of(model, batch):
    """[rows, LENGTH, WIDTH]; zeros where a row is padded."""
    out = torch.zeros(len(batch["tokens"]), LENGTH, WIDTH, dtype=torch.float64)
    for row, start, end in examples(batch):
        tokens = torch.tensor([batch["tokens"][row][start:end]])
        # RoBERTa takes the padding's token for padding wherever it stands; ours only knows padding at the ends.
        positions = torch.arange(end - start)[None]
        if "roberta" in model.config.model_type:
            positions = positions + model.config.pad_token_id + 1
        given = {} if model.config.model_type == "distilbert" else {"position_ids": positions}
        out[row, start:end] = body(model)(tokens, **given).last_hidden_state[0]
    return out


def backward(model, batch, probe):
    model.zero_grad()
    hidden = hidden_of(model, batch)
    loss = (hidden * probe).mean()
    loss.backward()
    return hidden, loss.item()


def gradients(model, prefix):
    return {f"{prefix}.{name}": p.grad for name, p in trained(model).items() if p.grad is not None}


def compute(folder, make, seed):
    shutil.rmtree(folder, ignore_errors=True)
    make(folder, seed)
    write_adapter(folder, seed + 1000)
    batch = micro_batch(LAYOUTS[0], random.Random(seed))
    del batch["targets"]
    probe = torch.randn(2, LENGTH, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 2000))
    plain, lora = load(folder), load_lora(folder)
    hidden, loss = backward(plain, batch, probe)
    lora_hidden, lora_loss = backward(lora, batch, probe)
    tensors = {"probe": probe, "hidden": hidden, "lora_hidden": lora_hidden} | gradients(lora, "lora_gradient")
    if folder.name in FULL:
        tensors |= gradients(plain, "gradient")
    save_file(float32(tensors), folder / "golden.safetensors")
    write_numbers(folder / "golden.json", {"batch": batch, "loss": loss, "lora_loss": lora_loss})
