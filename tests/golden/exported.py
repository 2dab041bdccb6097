"""What transformers and PEFT compute with folders that Anneal exported: python exported.py '[{...}, ...]'.

Each case: `model` a folder, `adapter` a folder or null, `as` sequence, causal, seq2seq or base, `tokens` of texts (and `sources` of what
they answer), `outputs` of a head on a base without one. Prints for each the numbers of every text, and what config.json says.
"""
import json
import sys

import peft
import torch
import transformers
from documented import run_python_of
from safetensors.torch import load_file

run_python_of("models.md")

CLASSES = {
    "sequence": transformers.AutoModelForSequenceClassification, "causal": transformers.AutoModelForCausalLM,
    "seq2seq": transformers.AutoModelForSeq2SeqLM, "base": transformers.AutoModel,
}


def load(case):
    more = {"num_labels": case["outputs"]} if case["adapter"] and case["outputs"] else {}
    model, info = CLASSES[case["as"]].from_pretrained(
        case["model"], dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=bool(more), **more)
    if not case["adapter"]:
        # A pooler is no part of a vector.
        missing = [name for name in info["missing_keys"] if not (case["as"] == "base" and "pooler" in name)]
        assert not missing and not info["mismatched_keys"], info
        return model
    tuned = peft.PeftModel.from_pretrained(model, case["adapter"])
    ours, theirs = load_file(f"{case['adapter']}/adapter_model.safetensors"), peft.get_peft_model_state_dict(tuned)
    assert ours.keys() == theirs.keys(), sorted(ours.keys() ^ theirs.keys())
    return tuned


def numbers(model, case, index):
    tokens = torch.tensor([case["tokens"][index]])
    if case["as"] == "seq2seq":
        made = model(input_ids=torch.tensor([case["sources"][index]]), decoder_input_ids=tokens, use_cache=False)
    else:
        made = model(input_ids=tokens)
    if case["as"] == "base":
        return torch.nn.functional.normalize(made.last_hidden_state.mean(1))[0]
    return made.logits[0]


with torch.no_grad():
    answers = []
    for case in json.loads(sys.argv[1]):
        model = load(case).eval()
        config = model.config
        answers.append({
            "numbers": [numbers(model, case, index).flatten().tolist() for index in range(len(case["tokens"]))],
            "class": type(model).__name__, "id2label": config.id2label, "problem_type": config.problem_type,
        })
print(json.dumps(answers))
