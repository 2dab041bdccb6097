"""What group relative policy optimization computes on the fixture `llama3`, in float64: one loss with its gradients.

As arXiv 2402.03300, equation 3, with one step for each set of answers, over tokens as `trl`'s GRPOTrainer has it (loss_type "dapo" on
one process, one iteration): the gradient is taken through the ratio of the policy to itself, not through -log p.
No answer is packed or padded here. `make.py` runs it.
"""
import random
from pathlib import Path

import torch
from compute import float32, load, load_lora, trained, write_numbers
from safetensors.torch import save_file
from variants import VOCAB

FOLDER = Path(__file__).parent / "llama3"
KL = 0.2
PROMPTS, GROUP = 3, 4
EPSILON = 1e-4


def tokens(rng, count):
    return [rng.randrange(VOCAB) for _ in range(count)]


def make_group(rng):
    prompt = tokens(rng, rng.randint(2, 8))
    return [{"prompt": prompt, "answer": tokens(rng, rng.randint(1, 8)), "reward": rng.randint(0, 4) / 4} for _ in range(GROUP)]


def log_probabilities(model, prompt, answer):
    """Of each of the answer's tokens."""
    logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1:-1]
    return torch.log_softmax(logits, -1)[torch.arange(len(answer)), torch.tensor(answer)]


def write_rollouts():
    rng = random.Random(11)
    groups = [make_group(rng) for _ in range(PROMPTS)]
    groups[1] = [{**sample, "reward": 0.5} for sample in groups[1]]  # nothing to learn but to stay
    base, policy = load(FOLDER), load_lora(FOLDER)

    losses, divergences = [], []
    for group in groups:
        rewards = torch.tensor([sample["reward"] for sample in group])
        advantages = (rewards - rewards.mean()) / (rewards.std() + EPSILON)
        for sample, advantage in zip(group, advantages):
            now = log_probabilities(policy, sample["prompt"], sample["answer"])
            with torch.no_grad():
                start = log_probabilities(base, sample["prompt"], sample["answer"])
            ratio = torch.exp(now - now.detach())
            divergence = torch.exp(start - now) - (start - now) - 1
            losses.append(-ratio * advantage + KL * divergence)
            divergences.append(divergence.detach())
            sample.update(advantage=advantage.item(), reference=start.tolist(), log_probabilities=now.tolist())

    torch.cat(losses).mean().backward()
    save_file(float32({name: p.grad for name, p in trained(policy).items()}), FOLDER / "grpo.safetensors")
    flat = [sample for group in groups for sample in group]
    weighted = [[-p * sample["advantage"] for p in sample["log_probabilities"]] for sample in flat]
    write_numbers(FOLDER / "grpo.json", {
        "kl_coefficient": KL, "groups": groups, "kl": torch.cat(divergences).mean().item(),
        # -log p in the place of the ratio: other numbers, the same gradients.
        "loss": (sum(map(sum, weighted)) / sum(map(len, weighted))) + KL * torch.cat(divergences).mean().item(),
    })
