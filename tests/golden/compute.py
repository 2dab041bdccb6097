"""What transformers and PEFT compute with a model: logits, loss, gradients, and whole short trainings.

Everything runs in float64 as far as transformers lets it (Gemma all the way), and every example of a packed row runs alone, in a
batch of one: so the numbers say nothing about packing, masking or accumulation, which is what they are there to check.
"""
import contextlib
import json
import math
import random
import shutil
from unittest import mock

import peft
import torch
import transformers
from chat_models import write_json
from safetensors.torch import save_file
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from variants import VOCAB

LENGTH = 24
# Lengths of the examples in each row of a micro-batch; what is left of a row is padding.
LAYOUTS = [[[10, 8, 6], [20]], [[24], [5, 13]]]
RANK, ALPHA = 4, 8
# PEFT's "all-linear" adapts the joined experts of a mixture too.
TARGETS = {"mixtral": ["q_proj", "k_proj", "v_proj", "o_proj"]}
TRAJECTORIES = {
    "llama3", "mistral", "qwen2", "qwen3", "gpt2", "gpt-neox", "falcon-7b", "falcon-40b", "mixtral", "gemma2", "gemma3", "phi3", "cohere",
}
# Models whose gradients are written for every tensor.
FULL = TRAJECTORIES | {"llama2", "cohere-normed"}
STEPS, WARMUP, CLIP, DECAY = 20, 3, 1.5, 0.1
LEARNING_RATE = {"lora": 2e-2, "full": 1e-2}
# At 2e-2, Gemma's capped scores amplify rounding: PyTorch's own run in float32 is off by 6e-4 and 8e-4 of gradient norms there.
GEMMAS_LEARNING_RATE = {"lora": 5e-3, "full": 1e-2}


def micro_batch(layout, rng):
    """tokens, positions, segments, targets: rows of LENGTH; targets -1 where nothing is to be learnt."""
    batch = {"tokens": [], "positions": [], "segments": [], "targets": []}
    for lengths in layout:
        row = {key: [] for key in batch}
        for segment, length in enumerate(lengths):
            tokens = [rng.randrange(VOCAB) for _ in range(length)]
            prompt = rng.randrange(length // 2)
            row["tokens"] += tokens
            row["positions"] += range(length)
            row["segments"] += [segment] * length
            row["targets"] += [t if i + 1 > prompt else -1 for i, t in enumerate(tokens[1:])] + [-1]
        padding = LENGTH - len(row["tokens"])
        row["tokens"] += [0] * padding
        row["positions"] += [0] * padding
        row["segments"] += [-1] * padding
        row["targets"] += [-1] * padding
        for key in batch:
            batch[key].append(row[key])
    return batch


def examples(batch):
    """(row, start, end) of every example in a micro-batch."""
    for row, segments in enumerate(batch["segments"]):
        for segment in sorted(set(segments) - {-1}):
            places = [i for i, s in enumerate(segments) if s == segment]
            yield row, places[0], places[-1] + 1


def norm_without_casts(self, x):
    return self._norm(x) * (1.0 + self.weight)


@contextlib.contextmanager
def gemma_in_float64():
    """Without the casts to float32 in norms and softmax: 20 steps with capped scores amplify their rounding to 4e-3 of a gradient norm."""
    softmax = torch.nn.functional.softmax
    with (
        mock.patch.object(Gemma2RMSNorm, "forward", norm_without_casts),
        mock.patch.object(Gemma3RMSNorm, "forward", norm_without_casts),
        mock.patch.object(torch.nn.functional, "softmax", lambda x, dim, dtype: softmax(x, dim)),
    ):
        yield


def logits_of(model, batch):
    """[rows, LENGTH, vocab]; zeros where a row is padded."""
    out = torch.zeros(len(batch["tokens"]), LENGTH, VOCAB, dtype=torch.float64)
    with gemma_in_float64() if "gemma" in model.config.model_type else contextlib.nullcontext():
        for row, start, end in examples(batch):
            out[row, start:end] = model(torch.tensor([batch["tokens"][row][start:end]])).logits[0]
    return out


def loss_sum(logits, batch):
    targets = torch.tensor(batch["targets"]).flatten()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets, ignore_index=-1, reduction="sum")


def count(batch):
    return sum(target >= 0 for row in batch["targets"] for target in row)


def backward(model, batches):
    """Mean loss over the trained tokens of all micro-batches together, its gradients left in the parameters."""
    model.zero_grad()
    total = sum(count(batch) for batch in batches)
    losses = [loss_sum(logits_of(model, batch), batch) / total for batch in batches]
    for loss in losses:
        loss.backward()
    return sum(loss.item() for loss in losses)


def write_numbers(path, value):
    path.write_text(json.dumps(value) + "\n")


def load(folder):
    # The experts of a mixture one after the other: the grouped product takes no float64.
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, experts_implementation="eager")
    return model.eval()


def load_lora(folder):
    return peft.PeftModel.from_pretrained(load(folder), folder / "adapter", is_trainable=True).double().eval()


def save_adapter(wrapped, folder, seed, spread=0.2):
    """As PEFT writes it, with both halves away from zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
    wrapped.float().save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink()
    path = folder / "adapter" / "adapter_config.json"
    config = json.loads(path.read_text())
    config["target_modules"].sort()
    write_json(path, {**config, "base_model_name_or_path": folder.name})


def write_adapter(folder, seed):
    wrapped = peft.get_peft_model(load(folder), peft.LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=TARGETS.get(folder.name, "all-linear"), task_type="CAUSAL_LM",
        fan_in_fan_out=folder.name.startswith("gpt2"),
    ))
    save_adapter(wrapped, folder, seed)


def adapter_name(name):
    """`base_model.model.x.lora_A.default.weight` -> as it is in adapter_model.safetensors."""
    return name.replace(".default.weight", ".weight")


def trained(model):
    return {adapter_name(name): p for name, p in model.named_parameters() if p.requires_grad}


def as_in_files(gradients):
    """By the names in files: transformers 5 joins the experts of Mixtral, gate and up above each other, and renames two tensors."""
    named = {}
    for name, gradient in gradients.items():
        path, _, kind = name.rpartition(".mlp.experts.")
        for expert in range(len(gradient) if path else 0):
            parts = {"w1": 0, "w3": 1} if kind == "gate_up_proj" else {"w2": 0}
            for part, piece in zip(parts, gradient[expert].chunk(len(parts))):
                named[f"{path}.block_sparse_moe.experts.{expert}.{part}.weight"] = piece
        if not path:
            renamed = name.replace(".mlp.gate.", ".block_sparse_moe.gate.")
            named[renamed.replace("lm_head", "embed_out") if "gpt_neox.embed_in.weight" in gradients else renamed] = gradient
    return named


def float32(tensors):
    return {name: tensor.detach().float().contiguous() for name, tensor in tensors.items()}


def write_single(folder, batch):
    """One micro-batch: logits and loss plain and with the adapter, gradients of the adapter, and of everything in FULL."""
    plain, lora = load(folder), load_lora(folder)
    tensors = {"logits": logits_of(plain, batch), "lora_logits": logits_of(lora, batch)}
    numbers = {"loss": backward(plain, [batch]), "lora_loss": backward(lora, [batch])}
    tensors |= {f"lora_gradient.{name}": p.grad for name, p in trained(lora).items()}
    if folder.name in FULL:
        gradients = as_in_files({name: p.grad for name, p in trained(plain).items()})
        tensors |= {f"gradient.{name}": gradient for name, gradient in gradients.items()}
    save_file(float32(tensors), folder / "golden.safetensors")
    write_numbers(folder / "golden.json", {"batch": batch, **numbers})


def schedule(step):
    """transformers' get_cosine_schedule_with_warmup, but that the first step is not at rate zero. Steps count from 0."""
    if step < WARMUP:
        return (step + 1) / (WARMUP + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))


def optimizer(model, learning_rate):
    parameters = list(trained(model).values())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": DECAY},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8)


def without_gradient(model):
    """A bias of all keys changes no attention. Its gradient is exactly zero, and Adam makes steps out of rounding errors there."""
    return [place for name, p in trained(model).items() for place in places_of_keys(model.config, name, p.shape[0])]


def places_of_keys(config, name, size):
    """Where a joined bias is added to keys that are not turned afterwards: GPT-2's middle third, of GPT-NeoX's heads what rotary positions leave."""
    if name.endswith("c_attn.bias"):
        yield {"tensor": name, "from": size // 3, "to": 2 * size // 3}
    if name.endswith("query_key_value.bias"):
        width = config.hidden_size // config.num_attention_heads
        turned = int(width * config.rope_parameters["partial_rotary_factor"])
        for head in range(0, size, 3 * width):
            yield {"tensor": name, "from": head + width + turned, "to": head + 2 * width}


def take_steps(model, peak, backward_at):
    """STEPS of AdamW. `backward_at(step)` leaves gradients in the parameters and gives the loss."""
    adamw = optimizer(model, peak)
    steps = []
    for step in range(STEPS):
        rate = peak * schedule(step)
        for group in adamw.param_groups:
            group["lr"] = rate
        loss = backward_at(step)
        norm = torch.nn.utils.clip_grad_norm_(trained(model).values(), CLIP).item()
        adamw.step()
        steps.append({"loss": loss, "gradient_norm": norm, "learning_rate": rate})
    return steps


def write_trajectory(folder, kind, batches, *, model, peak, backward, without_gradient):
    """Steps over `batches` in turn, each step all micro-batches of one batch. Final weights of what was trained."""
    steps = take_steps(model, peak, lambda step: backward(model, batches[step % len(batches)]))
    save_file(float32(as_in_files(trained(model))), folder / f"trajectory-{kind}.safetensors")
    write_numbers(folder / f"trajectory-{kind}.json", {
        "optimizer": {"name": "adamw", "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": DECAY,
                      "decayed": "tensors with more than one axis", "max_grad_norm": CLIP},
        "schedule": {"name": "cosine", "peak": peak, "warmup_ratio": WARMUP / STEPS, "warmup_steps": WARMUP, "steps": STEPS},
        "without_gradient": without_gradient(model),
        "batches": batches,
        "steps": steps,
    })


def compute(folder, make, seed):
    shutil.rmtree(folder, ignore_errors=True)
    make(folder, seed)
    write_adapter(folder, seed + 1000)
    rng = random.Random(seed)
    write_single(folder, micro_batch(LAYOUTS[0], rng))
    if folder.name in TRAJECTORIES:
        batches = [[micro_batch(layout, rng) for layout in LAYOUTS] for _ in range(4)]
        rates = GEMMAS_LEARNING_RATE if folder.name.startswith("gemma") else LEARNING_RATE
        for kind in ("lora", "full"):
            model = load_lora(folder) if kind == "lora" else load(folder)
            write_trajectory(
                folder, kind, batches, model=model, peak=rates[kind], backward=backward, without_gradient=without_gradient,
            )
