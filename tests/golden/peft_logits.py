"""Prints the logits of a model with an adapter, as PEFT loads them: python peft_logits.py MODEL ADAPTER '[[token, ...], ...]'."""
import json
import sys

import peft
import torch
import transformers
from safetensors.torch import load_file


def main(model_folder, adapter_folder, tokens):
    base = transformers.AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, adapter_folder).eval()
    # PEFT only warns of tensors it finds no place for, and says nothing of places it finds no tensors for.
    ours, theirs = load_file(f"{adapter_folder}/adapter_model.safetensors"), peft.get_peft_model_state_dict(model)
    assert ours.keys() == theirs.keys(), sorted(ours.keys() ^ theirs.keys())
    with torch.no_grad():
        print(json.dumps(model(torch.tensor(json.loads(tokens))).logits.tolist()))


main(*sys.argv[1:])
