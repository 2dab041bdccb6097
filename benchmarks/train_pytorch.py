"""Trains a benchmark's model with PyTorch, transformers and PEFT for some steps and prints what it took as JSON. Run by train.ts.

By hand: SDPA, the model's own loss, clipping and AdamW. With the Trainer: the same through transformers' Trainer and its default collator.
"""

import json
import resource
import sys
import tempfile
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

order = json.loads(sys.argv[1])
rows, length, steps, task = order["rows"], order["length"], order["steps"], order["task"]
device = order["device"]
synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
torch.set_num_threads(order["threads"])
torch.manual_seed(1)

CLASSES = {
    "generation": (AutoModelForCausalLM, "CAUSAL_LM"),
    "classification": (AutoModelForSequenceClassification, "SEQ_CLS"),
    "answering": (AutoModelForSeq2SeqLM, "SEQ_2_SEQ_LM"),
}
kind, peft_task = CLASSES[task]
options = {"num_labels": 2} if task == "classification" else {}
if task != "answering":
    options["attn_implementation"] = "sdpa"
model = kind.from_pretrained(order["folder"], dtype=getattr(torch, order["dtype"]), **options).to(device)
if task != "classification":
    model.config.use_cache = False
lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=order["targets"], task_type=peft_task)
model = get_peft_model(model, lora)
model.train()

vocab = model.config.vocab_size


def walk(count, first):
    return [3 + ((first + i) * 7919) % (vocab - 3) for i in range(count)]


def example(index):
    tokens = walk(length, index * length)
    if task == "classification":
        return {"input_ids": tokens, "attention_mask": [1] * length, "labels": index % 2}
    if task == "answering":
        return {"input_ids": tokens, "attention_mask": [1] * length, "labels": walk(order["answer"], 31)}
    prompt = round(order["masked"] * length)
    return {"input_ids": tokens, "attention_mask": [1] * length, "labels": [-100] * prompt + tokens[prompt:]}


seconds, cpu_seconds, losses = [], [], []


def by_hand():
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-3, weight_decay=0.01)
    examples = [example(index) for index in range(rows)]
    batch = {name: torch.tensor([one[name] for one in examples], device=device) for name in examples[0]}
    for _ in range(steps):
        start, cpu = time.perf_counter(), time.process_time()
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        synchronize()
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu)
        losses.append(loss.item())


def with_trainer():
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.start, self.cpu = time.perf_counter(), time.process_time()

        def on_step_end(self, *_, **__):
            synchronize()
            seconds.append(time.perf_counter() - self.start)
            cpu_seconds.append(time.process_time() - self.cpu)

        def on_log(self, arguments, state, control, logs=None, **__):
            if logs and "loss" in logs:
                losses.append(logs["loss"])

    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=rows,
        max_steps=steps,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        weight_decay=0.01,
        max_grad_norm=1.0,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=device == "cpu",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )
    data = [example(index) for index in range(rows * steps)]
    Trainer(model=model, args=arguments, train_dataset=data, callbacks=[Clock()]).train()


with_trainer() if order["trainer"] else by_hand()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print("\n" + json.dumps({"seconds": seconds, "cpuSeconds": cpu_seconds, "losses": losses, "peakBytes": peak}))
