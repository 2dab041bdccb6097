"""Measures what PyTorch's bf16 matrix product reaches on a device, as the peak that shares are taken of, and prints it as JSON with the versions."""

import json
import sys
import time

import torch

device = sys.argv[1]
size, runs = (8192, 20) if device == "cuda" else (512, 3)
synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
# Random numbers: on zeros a card draws less power and runs faster than it does at work.
a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
for _ in range(3):
    a @ b
best = float("inf")
for _ in range(runs):
    synchronize()
    start = time.perf_counter()
    a @ b
    synchronize()
    best = min(best, time.perf_counter() - start)
print(
    json.dumps(
        {
            "gflops": 2 * size**3 / best / 1e9,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "card": torch.cuda.get_device_name() if device == "cuda" else None,
        }
    )
)
