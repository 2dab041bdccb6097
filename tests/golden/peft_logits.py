"""Prints the logits of a model with an adapter, as PEFT loads them: python peft_logits.py MODEL ADAPTER '[[token, ...], ...]'.

With a further argument, the tokens of sources, the model is an encoder-decoder and the first tokens are answers to them. Of an encoder:
its last hidden states.
"""
import json
import sys

import peft
import torch
import transformers
from safetensors.torch import load_file


def adapter_kind(folder):
    with open(f"{folder}/adapter_config.json") as file:
        return json.load(file)["task_type"]


def main(model_folder, adapter_folder, tokens, sources=None):
    with open(f"{model_folder}/config.json") as file:
        kind = getattr(transformers, json.load(file)["architectures"][0])
    base = kind.from_pretrained(model_folder, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, adapter_folder).eval()
    # PEFT only warns of tensors it finds no place for, and says nothing of places it finds no tensors for.
    ours, theirs = load_file(f"{adapter_folder}/adapter_model.safetensors"), peft.get_peft_model_state_dict(model)
    assert ours.keys() == theirs.keys(), sorted(ours.keys() ^ theirs.keys())
    with torch.no_grad():
        given = torch.tensor(json.loads(tokens))
        if sources:
            read = torch.tensor(json.loads(sources))
            given = {"input_ids": read, "attention_mask": torch.ones_like(read), "decoder_input_ids": given, "use_cache": False}
        if adapter_kind(adapter_folder) == "FEATURE_EXTRACTION":
            print(json.dumps(model.get_base_model().base_model(given).last_hidden_state.tolist()))
        else:
            print(json.dumps((model(**given) if sources else model(given)).logits.tolist()))


main(*sys.argv[1:])
