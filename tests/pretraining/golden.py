# Makes golden.json: what Python's `tokenizers` and `transformers` make of models/anneal-tiny. Run after the model was made anew:
#   python tests/pretraining/golden.py
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

here = Path(__file__).parent
folder = here.parent.parent / "models" / "anneal-tiny"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

texts = [
    "One morning, Lucy found a small box.",
    "It's 42 o'clock; I'll wait...",
    "Straße, naïve, Ελλάδα, 日本語, emoji 😀",
    "tabs\tand\n\nlines  and   spaces ",
    "def f(x): return x**2  # code",
    "",
]
chats = [
    [{"role": "user", "content": "Hello! Who are you?"}],
    [{"role": "user", "content": "What do cows eat?"}],
    [{"role": "system", "content": "Answer with one word."}, {"role": "user", "content": "What is the opposite of hot?"}],
    [
        {"role": "user", "content": "Count to three."},
        {"role": "assistant", "content": "one, two, three"},
        {"role": "user", "content": "Thank you."},
    ],
]


def answer(messages):
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)[0].tolist()
    return {"messages": messages, "rendered": text, "prompt": ids[0].tolist(), "generated": out[ids.shape[1] :]}


golden = {
    "texts": [{"text": text, "ids": tokenizer(text).input_ids} for text in texts],
    "chats": [answer(messages) for messages in chats],
}
(here / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")
