"""Makes every fixture below this folder with PyTorch, transformers and PEFT: tiny random models and what they compute.

Run: python tests/golden/make.py [name ...]. Seeds are fixed; the results are committed, so tests need no Python.
`models.py` says which models there are; `compute.py` what is computed with them.
"""
import sys
from pathlib import Path

import chat_models

HERE = Path(__file__).parent


def main(wanted):
    for name, make in chat_models.MODELS.items():
        if not wanted or name in wanted:
            make(HERE / name)
            print(name)


main(sys.argv[1:])
