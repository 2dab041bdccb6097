"""Makes every fixture below this folder with PyTorch, transformers and PEFT: tiny random models and what they compute.

Run: python tests/golden/make.py [name ...]. Seeds are fixed; the results are committed, so the tests need no Python.
`chat_models.py` and `variants.py` say which models there are, `compute.py` what is computed with them; `encoders.py` says both of encoders,
`seq2seq.py` of encoder-decoders.
Made with torch 2.13, transformers 5.23, peft 0.21.
"""
import sys
from pathlib import Path

import chat_models
import contrastive
import retrieval
import sentences
import torch
from compute import compute
from encoders import ENCODERS
from encoders import compute as compute_encoder
from preferences import write_preferences
from published import write_published
from rollouts import write_rollouts
from seq2seq import MODELS as SEQ2SEQ
from seq2seq import compute_seq2seq, write_beams
from variants import VARIANTS

HERE = Path(__file__).parent


def main(wanted):
    torch.set_num_threads(1)
    for name, make in chat_models.MODELS.items():
        if not wanted or name in wanted:
            make(HERE / name)
    for seed, (name, make) in enumerate(VARIANTS.items(), start=10):
        if not wanted or name in wanted:
            compute(HERE / name, make, seed)
    if not wanted or "llama3" in wanted:
        write_preferences()
        write_rollouts()
    for seed, (name, make) in enumerate(ENCODERS.items(), start=50):
        if not wanted or name in wanted:
            compute_encoder(HERE / name, make, seed)
    for seed, (name, make) in enumerate(SEQ2SEQ.items(), start=70):
        if not wanted or name in wanted:
            compute_seq2seq(HERE / name, make, seed)
    if not wanted or "bert-tiny" in wanted:
        sentences.make(HERE)
    if not wanted or "contrastive" in wanted:
        contrastive.make(HERE)
    if not wanted or "retrieval" in wanted:
        retrieval.make(HERE)
    if not wanted or "beams" in wanted:
        write_beams(HERE / "beams.json")
    if not wanted or "published" in wanted:
        write_published(HERE / "published.json")
    for path in HERE.glob("**/*.safetensors"):
        path.chmod(0o644)


main(sys.argv[1:])
