"""Prints the scores of texts as transformers and PEFT read a classifier: python sequence_scores.py '[[token, ...], ...]' MODEL [ADAPTER]."""
import json
import sys

import peft
import torch
import transformers
from safetensors.torch import load_file


def main(tokens, model_folder, adapter_folder=None):
    outputs = {}
    if adapter_folder:
        with open(f"{adapter_folder}/classifier_config.json") as file:
            outputs = {"num_labels": json.load(file)["num_labels"]}
    model = transformers.AutoModelForSequenceClassification.from_pretrained(model_folder, dtype=torch.float32, **outputs)
    if adapter_folder:
        model = peft.PeftModel.from_pretrained(model, adapter_folder)
        # PEFT only warns of tensors it finds no place for, and says nothing of places it finds no tensors for.
        ours, theirs = load_file(f"{adapter_folder}/adapter_model.safetensors"), peft.get_peft_model_state_dict(model)
        assert ours.keys() == theirs.keys(), sorted(ours.keys() ^ theirs.keys())
    model.eval()
    with torch.no_grad():
        print(json.dumps([model(torch.tensor([text])).logits.softmax(-1)[0].tolist() for text in json.loads(tokens)]))


main(*sys.argv[1:])
