"""Writes autocast.json: how far PyTorch's loss and adapter gradients in bf16 (autocast) are from its own in float32, on golden models.

Run in this folder: `python autocast.py`.
"""

import json
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
MODELS = ["llama3", "gpt2", "llama-bf16-sharded"]


def packed_mask(segments):
    """[rows, 1, length, length]: 0 where a token sees another, the least number elsewhere."""
    length = segments.shape[1]
    seen = (segments[:, :, None] == segments[:, None, :]) & torch.tril(torch.ones(length, length, dtype=torch.bool))
    return torch.where(seen, 0.0, torch.finfo(torch.float32).min)[:, None]


def run(model, batch, autocast):
    model.zero_grad()
    mask = packed_mask(torch.tensor(batch["segments"]))
    tokens, positions = torch.tensor(batch["tokens"]), torch.tensor(batch["positions"])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = model(input_ids=tokens, position_ids=positions, attention_mask=mask).logits
    targets = torch.tensor(batch["targets"]).flatten()
    loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets, ignore_index=-1)
    loss.backward()
    gradients = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    return loss.item(), torch.cat(gradients)


def apart(name):
    folder = HERE / name
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model = PeftModel.from_pretrained(base, folder / "adapter", is_trainable=True)
    batch = json.loads((folder / "golden.json").read_text())["batch"]
    (loss, gradients), (rounded_loss, rounded) = run(model, batch, False), run(model, batch, True)
    return {
        "loss": abs(rounded_loss / loss - 1),
        "gradients": ((rounded - gradients).norm() / gradients.norm()).item(),
    }


(HERE / "autocast.json").write_text(json.dumps({name: apart(name) for name in MODELS}, indent=2) + "\n")
