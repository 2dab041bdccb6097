"""Trains a benchmark's model with PyTorch, transformers and PEFT for some steps and prints what it took as JSON. Run by train.ts."""

import json
import resource
import sys
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

directory, steps, length, threads, targets = sys.argv[1:6]
steps, length = int(steps), int(length)
torch.set_num_threads(int(threads))
torch.manual_seed(1)

model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa")
model.config.use_cache = False
lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=targets.split(","), task_type="CAUSAL_LM")
model = get_peft_model(model, lora)
model.train()
trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimizer = torch.optim.AdamW(trainable, lr=1e-3, weight_decay=0.01)

vocab = model.config.vocab_size
walk = torch.tensor([(i * 7919) % vocab for i in range(length + 1)])
tokens, targets = walk[None, :length], walk[1:]

seconds, cpu_seconds, losses = [], [], []
for _ in range(steps):
    start, cpu = time.perf_counter(), time.process_time()
    logits = model(input_ids=tokens).logits[0]
    loss = torch.nn.functional.cross_entropy(logits, targets)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trainable, 1.0)
    optimizer.step()
    seconds.append(time.perf_counter() - start)
    cpu_seconds.append(time.process_time() - cpu)
    losses.append(loss.item())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"seconds": seconds, "cpuSeconds": cpu_seconds, "losses": losses, "peakBytes": peak}))
