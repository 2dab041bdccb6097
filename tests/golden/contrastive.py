"""Contrastive training of bert-tiny on pairs and triplets by PyTorch and PEFT: losses, gradients and short trajectories.

Float64, every text alone. The loss is held against sentence-transformers' own where that has one (every line with a negative).
"""
import shutil

import peft
import torch
import transformers
from compute import float32, write_numbers
from safetensors.torch import save_file
from sentence_transformers import losses
from sentences import sentence_model
from torch.nn.functional import cross_entropy, normalize

LINES = [
    {"anchor": "Where is my order?", "positive": "You can return it within thirty days.", "negative": "the food was bad"},
    {"anchor": "weather in the north", "positive": "It is cold, and there will be rain in the evening."},
    {"anchor": "classify this sentence", "positive": "positive", "negative": "negative"},
    {"anchor": "quick brown fox", "positive": "The lazy dog. " * 4, "negative": "the service was slow."},
    {"anchor": "the service was friendly", "positive": "the food was great"},
    {"anchor": "A user asks", "positive": "the assistant answers.", "negative": "because it arrived late"},
    {"anchor": "return my order", "positive": "order", "negative": "x"},
]
TEMPERATURE = 0.05
BATCH, STEPS, DECAY, CLIP = 4, 8, 0.1, 1.0
LEARNING_RATE = {"lora": 5e-3, "full": 1e-3}
KEYS = ("anchor", "positive", "negative")


def load(folder, kind):
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float64).eval()
    if kind == "full":
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding):
                module.padding_idx = None
        return model
    names = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "pooler" not in n]
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, target_modules=names))
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.copy_((0.1 * torch.randn(parameter.shape, generator=generator)).float().double())
    return wrapped.double()


def vector(model, tokens):
    return normalize(model(torch.tensor([tokens])).last_hidden_state.mean(1), dim=1)[0]


def loss_of(model, examples):
    anchors = torch.stack([vector(model, e["anchor"]) for e in examples])
    texts = [vector(model, e["positive"]) for e in examples]
    texts += [vector(model, e["negative"]) for e in examples if "negative" in e]
    scores = anchors @ torch.stack(texts).T / TEMPERATURE
    targets = torch.arange(len(examples))
    return cross_entropy(scores, targets), (scores.argmax(1) == targets).double().mean().item()


def check_against_library(folder, model, examples):
    """sentence-transformers on the lines that have a negative."""
    whole = [e for e in examples if "negative" in e]
    library = losses.MultipleNegativesRankingLoss(sentence_model(folder, "mean", True).double(), scale=1 / TEMPERATURE)
    longest = max(len(e[key]) for e in whole for key in KEYS)
    padded = lambda tokens: tokens + [0] * (longest - len(tokens))
    features = [
        {"input_ids": torch.tensor([padded(e[key]) for e in whole]),
         "attention_mask": torch.tensor([padded([1] * len(e[key])) for e in whole])} for key in KEYS
    ]
    assert abs(library(features, None).item() - loss_of(model, whole)[0].item()) < 1e-9


def short(name):
    """PEFT's name of a half of an adapter as `<layer>.lora_A`."""
    return name.removeprefix("base_model.model.").replace(".lora_A.default.weight", ".lora_A").replace(".lora_B.default.weight", ".lora_B")


def parameters_of(model):
    return {short(n): p for n, p in model.named_parameters() if p.requires_grad and "pooler" not in n}


def train(folder, kind, examples, out):
    model = load(folder, kind)
    parameters = parameters_of(model)
    # Full training starts at the model's own weights.
    tensors = {f"start.{n}": p.detach().clone() for n, p in parameters.items() if kind == "lora"}
    fixture = {"lines": LINES, "examples": examples, "temperature": TEMPERATURE, "kind": kind, "rank": 4, "alpha": 8,
               "optimizer": {"learning_rate": LEARNING_RATE[kind], "weight_decay": DECAY, "max_grad_norm": CLIP, "batch": BATCH}}
    loss, accuracy = loss_of(model, examples)
    loss.backward()
    fixture |= {"loss": loss.item(), "accuracy": accuracy}
    # A bias of all keys changes no attention.
    fixture["without_gradient"] = [n for n in parameters if n.endswith("key.bias")]
    tensors |= {f"gradient.{n}": p.grad.clone() for n, p in parameters.items() if p.grad is not None}
    adamw = torch.optim.AdamW([
        {"params": [p for p in parameters.values() if p.dim() > 1], "weight_decay": DECAY},
        {"params": [p for p in parameters.values() if p.dim() == 1], "weight_decay": 0.0},
    ], lr=LEARNING_RATE[kind], betas=(0.9, 0.999), eps=1e-8)
    fixture["steps"] = []
    for step in range(STEPS):
        model.zero_grad()
        batch = [examples[(step * BATCH + i) % len(examples)] for i in range(BATCH)]
        loss, _ = loss_of(model, batch)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), CLIP).item()
        adamw.step()
        fixture["steps"].append({"loss": loss.item(), "gradient_norm": norm})
    tensors |= {f"final.{n}": p.detach() for n, p in parameters.items()}
    save_file(float32(tensors), out / f"{kind}.safetensors")
    write_numbers(out / f"{kind}.json", fixture)


def make(here):
    folder, out = here / "bert-tiny", here / "contrastive"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    encode = transformers.AutoTokenizer.from_pretrained(folder)
    examples = [{key: encode(text)["input_ids"] for key, text in line.items()} for line in LINES]
    check_against_library(folder, load(folder, "full"), examples)
    for kind in ("lora", "full"):
        train(folder, kind, examples, out)
