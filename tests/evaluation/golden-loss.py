"""Prints the loss and the token accuracy that generate.test.ts expects: transformers on tests/golden/llama-tiny.

    pip install torch transformers && python tests/evaluation/golden-loss.py
"""
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = Path(__file__).parent.parent / "golden" / "llama-tiny"
model = AutoModelForCausalLM.from_pretrained(folder).double().eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
losses, hits = [], []
for question, answer in [("Hello", "Good day"), ("Rain?", "It is cold")]:
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False)
    learnt = tokenizer(answer, add_special_tokens=False).input_ids + [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    logits = model(torch.tensor([prompt + learnt])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    losses += [-logits[i, token].item() for i, token in enumerate(learnt)]
    hits += [logits[i].argmax().item() == token for i, token in enumerate(learnt)]
print(sum(losses) / len(losses), sum(hits) / len(hits))
