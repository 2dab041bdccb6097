"""Generates with transformers, and PEFT where adapters are asked for, what serve.ts asks for on its standard input; prints as JSON how long it took."""

import json
import sys
import time

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

order = json.load(sys.stdin)
device = order["device"]
synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
torch.set_num_threads(order["threads"])
dtype = torch.bfloat16 if device == "cuda" else torch.float32
base = AutoModelForCausalLM.from_pretrained(order["folder"], dtype=dtype, attn_implementation="sdpa").to(device).eval()
# Answers have the lengths that are asked for.
base.generation_config.eos_token_id = None


def with_adapters(folders):
    model = PeftModel.from_pretrained(base, folders[0], adapter_name="0")
    for index, folder in enumerate(folders[1:], 1):
        model.load_adapter(folder, adapter_name=str(index))
    return model.eval()


@torch.inference_mode()
def generate(model, asked, most=None):
    """One batch, padded on the left, to the length of the longest answer -> the tokens of each answer."""
    longest = max(len(one["tokens"]) for one in asked)
    tokens = torch.tensor([[0] * (longest - len(one["tokens"])) + one["tokens"] for one in asked], device=device)
    mask = torch.tensor([[0] * (longest - len(one["tokens"])) + [1] * len(one["tokens"]) for one in asked], device=device)
    adapted = {} if asked[0]["adapter"] is None else {"adapter_names": [str(one["adapter"]) for one in asked]}
    length = most or max(one["answer"] for one in asked)
    out = model.generate(
        input_ids=tokens, attention_mask=mask, max_new_tokens=length, do_sample=False, pad_token_id=0, **adapted
    )
    synchronize()
    return [row[longest : longest + one["answer"]].tolist() for row, one in zip(out, asked)]


def timed(run):
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def measure(model, case):
    asked, at_once = case["asked"], case["requests"]
    batches = [asked[start : start + at_once] for start in range(0, len(asked), at_once)]
    generate(model, batches[0], 2)
    first = min(timed(lambda: generate(model, batches[0], 1))[0] for _ in range(order["rounds"]))
    runs = [timed(lambda: [tokens for batch in batches for tokens in generate(model, batch)]) for _ in range(order["rounds"])]
    seconds, tokens = min(runs)
    total = sum(one["answer"] for one in asked)
    return {"firstToken": first, "tokensPerSecond": total / seconds}, tokens


# The base model is measured before PEFT is put around it.
measured = {index: measure(base, case) for index, case in enumerate(order["cases"]) if not case["adapters"]}
if order["adapters"]:
    model = with_adapters(order["adapters"])
    measured |= {index: measure(model, case) for index, case in enumerate(order["cases"]) if case["adapters"]}
results = [measured[index] for index in range(len(order["cases"]))]
resident = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
out = {"cases": [one for one, _ in results], "tokens": [tokens for _, tokens in results]}
print("\n" + json.dumps({**out, "bytes": int(resident.split()[1]) * 1024}))
