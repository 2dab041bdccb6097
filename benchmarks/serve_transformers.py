"""Generates with transformers and PEFT what serve.ts asks for on its standard input, and prints how long it took as JSON."""

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
base = AutoModelForCausalLM.from_pretrained(order["folder"], dtype=dtype, attn_implementation="sdpa").to(device)
model = PeftModel.from_pretrained(base, order["adapters"][0], adapter_name="0")
for index, folder in enumerate(order["adapters"][1:], 1):
    model.load_adapter(folder, adapter_name=str(index))
model.eval()


@torch.inference_mode()
def generate(requests, adapters, length):
    tokens = torch.tensor(order["prompts"][:requests], device=device)
    names = [str(index % adapters) if adapters else "__base__" for index in range(requests)]
    start = time.perf_counter()
    model.generate(
        input_ids=tokens,
        attention_mask=torch.ones_like(tokens),
        adapter_names=names,
        max_new_tokens=length,
        min_new_tokens=length,
        do_sample=False,
        pad_token_id=0,
    )
    synchronize()
    return time.perf_counter() - start


results = []
for case in order["cases"]:
    requests, adapters = case["requests"], case["adapters"]
    generate(requests, adapters, 2)
    first = min(generate(requests, adapters, 1) for _ in range(order["rounds"]))
    whole = min(generate(requests, adapters, order["answer"]) for _ in range(order["rounds"]))
    results.append({"firstToken": first, "tokensPerSecond": requests * order["answer"] / whole})
resident = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
print("\n" + json.dumps({"cases": results, "bytes": int(resident.split()[1]) * 1024}))
