"""Writes quantization.json: numbers, and what bitsandbytes 0.50 makes of them in NF4 (https://github.com/bitsandbytes-foundation/bitsandbytes).

    pip install torch bitsandbytes && python tests/formats/quantization.py
"""

import json
from pathlib import Path

import bitsandbytes.functional as functional
import torch

torch.manual_seed(5)
numbers = torch.cat(
    [
        torch.randn(4 * 64) * torch.tensor([0.02, 1.0, 30.0, 1e-4]).repeat_interleave(64),
        torch.zeros(64),
        torch.linspace(-1, 1, 64),
    ]
)
codes, state = functional.quantize_4bit(numbers, blocksize=64, quant_type="nf4")
pairs = codes.flatten().long()
book = state.code[torch.stack([pairs >> 4, pairs & 15], 1).flatten()]
whole = book * state.absmax.repeat_interleave(64)
Path(__file__).with_suffix(".json").write_text(
    json.dumps(
        {
            "numbers": numbers.tolist(),
            "codes": codes.flatten().tolist(),
            "scales": state.absmax.tolist(),
            "dequantized": whole.tolist(),
        }
    )
    + "\n"
)
