"""What direct preference optimization computes on the fixture `llama3`, in float64: one loss with its gradients, and two short trainings.

Loss: arXiv 2305.18290, equation 7, as `trl`'s DPOTrainer has it (loss_type "sigmoid"): per pair, over the answers' tokens alone.
No pair is packed or padded here. `make.py` runs it.
"""
import random
from pathlib import Path

import torch
from compute import LEARNING_RATE, float32, load, load_lora, take_steps, trained, write_numbers
from safetensors.torch import save_file
from variants import VOCAB

FOLDER = Path(__file__).parent / "llama3"
BETA = 0.3
BATCHES, PAIRS = 4, 5


def make_pair(rng):
    tokens = lambda count: [rng.randrange(VOCAB) for _ in range(count)]
    return {"prompt": tokens(rng.randint(2, 8)), "chosen": tokens(rng.randint(1, 8)), "rejected": tokens(rng.randint(1, 8))}


def log_probability(model, prompt, answer):
    """Of the answer's tokens, summed."""
    logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1:-1]
    return torch.log_softmax(logits, -1)[torch.arange(len(answer)), torch.tensor(answer)].sum()


def log_probabilities(model, pairs):
    """[pairs, 2]: chosen, rejected."""
    return torch.stack([
        torch.stack([log_probability(model, pair["prompt"], pair[side]) for side in ("chosen", "rejected")]) for pair in pairs
    ])


def reference_of(model, batches):
    with torch.no_grad():
        return [log_probabilities(model, pairs) for pairs in batches]


def rewards(model, pairs, reference):
    return BETA * (log_probabilities(model, pairs) - reference)


def loss_of(rewarded):
    """Mean over the pairs."""
    return -torch.nn.functional.logsigmoid(rewarded[:, 0] - rewarded[:, 1]).mean()


def write_single(pairs):
    """The policy is the adapter, the reference the base model."""
    reference, = reference_of(load(FOLDER), [pairs])
    policy = load_lora(FOLDER)
    rewarded = rewards(policy, pairs, reference)
    loss = loss_of(rewarded)
    loss.backward()
    save_file(float32({name: p.grad for name, p in trained(policy).items()}), FOLDER / "dpo.safetensors")
    write_numbers(FOLDER / "dpo.json", {
        "beta": BETA, "pairs": pairs, "reference": reference.tolist(), "loss": loss.item(),
        "rewards": rewarded.tolist(), "accuracy": (rewarded[:, 0] > rewarded[:, 1]).double().mean().item(),
    })


def write_trajectory(kind, batches):
    """The reference is what the policy is at the start. Dimensions, schedule and optimizer are those of compute.py's trajectories."""
    model = load_lora(FOLDER) if kind == "lora" else load(FOLDER)
    references = reference_of(model, batches)

    def backward_at(step):
        model.zero_grad()
        loss = loss_of(rewards(model, batches[step % BATCHES], references[step % BATCHES]))
        loss.backward()
        return loss.item()

    steps = take_steps(model, LEARNING_RATE[kind], backward_at)
    save_file(float32(trained(model)), FOLDER / f"dpo-trajectory-{kind}.safetensors")
    write_numbers(FOLDER / f"dpo-trajectory-{kind}.json", {"beta": BETA, "batches": batches, "steps": steps})


def write_preferences():
    rng = random.Random(7)
    write_single([make_pair(rng) for _ in range(PAIRS)])
    batches = [[make_pair(rng) for _ in range(PAIRS)] for _ in range(BATCHES)]
    for kind in ("lora", "full"):
        write_trajectory(kind, batches)
