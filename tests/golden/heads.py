"""Heads for classes and numbers on the tiny models of this folder, as transformers' ...ForSequenceClassification and PEFT train them.

Run: python tests/golden/heads.py [name ...]. For each run of RUNS in heads/NAME: examples with their targets, the trained numbers at the
start, logits, the loss, every gradient, and 20 AdamW steps over batches of four. As in compute.py: float64, every text alone.
Made with torch 2.13, transformers 5.23, peft 0.21.
"""
import json
import random
import shutil
import sys
from pathlib import Path

import peft
import torch
import transformers
from documented import run_python_of
from safetensors.torch import save_file
from transformers.models.bart.modeling_bart import shift_tokens_right

# transformers' MarianModel under its BartClassificationHead, as AutoModelForSequenceClassification from here on.
run_python_of("models.md")

HERE = Path(__file__).parent
RANK, ALPHA = 4, 8
LEARNING_RATE, DECAY, CLIP, STEPS, BATCH = {"lora": 4e-3, "full": 1e-3}, 0.1, 1.5, 20, 4
LABELS = ["billing", "other", "technical"]

# name: model, problem, kind, class weights, and for LoRA the adapted modules and those saved whole
BERT_TARGETS = [f"bert.encoder.layer.{i}.{path}" for i in range(2) for path in
                ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
                 "intermediate.dense", "output.dense")]
BART_ATTENTION = ["q_proj", "k_proj", "v_proj", "out_proj"]
BART_TARGETS = [f"model.{side}.layers.{i}.{path}" for side, layers, attentions in
                (("encoder", 2, ["self_attn"]), ("decoder", 3, ["self_attn", "encoder_attn"])) for i in range(layers)
                for path in [f"{attention}.{name}" for attention in attentions for name in BART_ATTENTION] + ["fc1", "fc2"]]
LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RUNS = {
    "llama-single": ("llama3", "single", "lora", None, LLAMA, ["score"]),
    "llama-weighted": ("llama3", "single", "full", [0.5, 1.25, 3.0], None, None),
    "gpt2-multiple": ("gpt2", "multiple", "lora", [1.0, 2.5, 0.75], ["c_attn", "c_proj", "c_fc"], ["score"]),
    "bert-single": ("bert", "single", "lora", [2.0, 1.0, 0.5], BERT_TARGETS, ["pooler", "classifier"]),
    "bert-full": ("bert", "single", "full", None, None, None),
    "bert-regression": ("bert", "regression", "lora", None, BERT_TARGETS, ["pooler", "classifier"]),
    "llama-regression": ("llama3", "regression", "full", None, None, None),
    "roberta-multiple": ("roberta", "multiple", "full", None, None, None),
    "distilbert-single": ("distilbert", "single", "lora", None, ["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"],
                          ["pre_classifier", "classifier"]),
    "modernbert-single": ("modernbert", "single", "lora", None, ["Wqkv", "Wo", "Wi"], ["head", "classifier"]),
    "bart-single": ("bart", "single", "lora", [2.0, 1.0, 0.5], BART_TARGETS, ["classification_head"]),
    "t5-multiple": ("t5", "multiple", "full", None, None, None),
    "t5-single": ("t5-v1.1", "single", "lora", None, ["q", "k", "v", "o", "wi_0", "wi_1", "wo"], ["classification_head"]),
    "roberta-single": ("roberta", "single", "lora", None, [name.replace("bert.", "roberta.", 1) for name in BERT_TARGETS], ["classifier"]),
    "distilbert-full": ("distilbert", "single", "full", None, None, None),
    "modernbert-full": ("modernbert", "single", "full", None, None, None),
    "marian-single": ("marian", "single", "full", [2.0, 1.0, 0.5], None, None),
    "marian-multiple": ("marian", "multiple", "lora", None, BART_TARGETS, ["classification_head"]),
}
PROBLEMS = {
    "single": "single_label_classification", "multiple": "multi_label_classification", "regression": "regression",
}


def load(name, problem, seed):
    outputs = 1 if problem == "regression" else len(LABELS)
    torch.manual_seed(seed)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        HERE / name, num_labels=outputs, problem_type=PROBLEMS[problem], dtype=torch.float32,
        ignore_mismatched_sizes=True)
    if outputs > 1:
        model.config.id2label = dict(enumerate(LABELS))
        model.config.label2id = {label: i for i, label in enumerate(LABELS)}
    return model.eval()


def randomize(model, names, seed):
    """Away from zero, and numbers of float32. Scores of T5 are not scaled, Marian's embeddings are: with large adapters gradients are rounding errors."""
    spread = 0.05 if model.config.model_type in ("t5", "marian") else 0.2
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in names):
                parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))


def our_name(name):
    """PEFT's spelling -> the model's own, with the halves of an adapter behind their layer."""
    plain = name.removeprefix("base_model.model.").replace(".modules_to_save.default", "")
    return plain.replace(".lora_A.default.weight", ".lora_A").replace(".lora_B.default.weight", ".lora_B")


def trained(model):
    return {our_name(name): p for name, p in model.named_parameters() if p.requires_grad}


def make_examples(problem, vocabulary, rng, end):
    examples = []
    for _ in range(8):
        tokens = [rng.randrange(5, vocabulary) for _ in range(rng.randrange(3, 15))] + end
        if problem == "single":
            target = [rng.randrange(len(LABELS))]
        elif problem == "multiple":
            target = [rng.randrange(2) for _ in LABELS]
        else:
            target = [round(rng.uniform(-2, 2), 3)]
        examples.append({"tokens": tokens, "target": target})
    return examples


def logits_of(model, examples):
    return torch.cat([model(torch.tensor([each["tokens"]])).logits for each in examples])


def assert_as_bart(model, examples):
    """The class that is documented for Marian, against the forward pass of transformers' BartForSequenceClassification on its parts."""
    with torch.no_grad():
        for each in examples:
            tokens = torch.tensor([each["tokens"]])
            shifted = shift_tokens_right(tokens, model.config.pad_token_id, model.config.decoder_start_token_id)
            expected = transformers.BartForSequenceClassification.forward(model, tokens, decoder_input_ids=shifted).logits
            assert torch.equal(model(tokens).logits, expected)


def loss_of(logits, examples, problem, weights):
    targets = [each["target"] for each in examples]
    weight = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    if problem == "single":
        return torch.nn.CrossEntropyLoss(weight=weight)(logits, torch.tensor(targets)[:, 0])
    if problem == "multiple":
        return torch.nn.BCEWithLogitsLoss(pos_weight=weight)(logits, torch.tensor(targets, dtype=torch.float64))
    return torch.nn.MSELoss()(logits, torch.tensor(targets, dtype=torch.float64))


def float32(tensors, prefix):
    return {f"{prefix}.{name}": tensor.detach().float().contiguous().clone() for name, tensor in tensors.items()}


def make(name, seed):
    base, problem, kind, weights, targets, saved = RUNS[name]
    folder = HERE / "heads" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng = random.Random(seed)
    # Squared errors near zero are all rounding.
    learning_rate = LEARNING_RATE[kind] * (0.25 if problem == "regression" else 1)
    model = load(base, problem, seed)
    if base == "marian":
        # Sines, which PyTorch would train: from_pretrained forgets that they are fixed.
        for side in (model.model.encoder, model.model.decoder):
            side.embed_positions.weight.requires_grad_(False)
    vocabulary = model.config.get_text_config().vocab_size
    if kind == "lora":
        model = peft.get_peft_model(model, peft.LoraConfig(
            r=RANK, lora_alpha=ALPHA, target_modules=targets, modules_to_save=saved, task_type="SEQ_CLS",
            fan_in_fan_out=base.startswith("gpt2"), exclude_modules=None))
        randomize(model, ["lora_", "modules_to_save"], seed)
    else:
        randomize(model, ["score", "classifier", "classification_head", "pooler"], seed)
    model = model.double().eval()
    assert model.get_base_model().dtype == torch.float64 if kind == "lora" else model.dtype == torch.float64
    # Heads of encoder-decoders read the state of the end token.
    end = [model.config.eos_token_id] if model.config.is_encoder_decoder else []
    examples = make_examples(problem, vocabulary, rng, end)
    if base == "marian":
        assert_as_bart(model.get_base_model() if kind == "lora" else model, examples)
    tensors = float32(trained(model), "start")
    logits = logits_of(model, examples)
    if problem == "single" and weights is None:
        # The loss that transformers itself computes.
        own = torch.stack([model(torch.tensor([e["tokens"]]), labels=torch.tensor(e["target"])).loss for e in examples])
        assert torch.allclose(own.mean(), loss_of(logits, examples, problem, weights))
    loss = loss_of(logits, examples, problem, weights)
    loss.backward()
    first = {n: p.grad.clone() for n, p in trained(model).items() if p.grad is not None}
    tensors |= float32(first, "gradient")
    # A bias of all keys changes no attention: Adam makes steps out of rounding errors there.
    blind = [n for n, gradient in first.items() if gradient.abs().max() < 1e-12]
    parameters = trained(model)
    adamw = torch.optim.AdamW([
        {"params": [p for p in parameters.values() if p.dim() > 1], "weight_decay": DECAY},
        {"params": [p for p in parameters.values() if p.dim() == 1], "weight_decay": 0.0},
    ], lr=learning_rate)
    steps = []
    for step in range(STEPS):
        adamw.zero_grad()
        batch = [examples[(step * BATCH + i) % len(examples)] for i in range(BATCH)]
        step_loss = loss_of(logits_of(model, batch), batch, problem, weights)
        step_loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), CLIP).item()
        adamw.step()
        steps.append({"loss": step_loss.item(), "gradient_norm": norm})
    tensors |= float32(parameters, "final")
    save_file(tensors, folder / "golden.safetensors")
    (folder / "golden.safetensors").chmod(0o644)
    (folder / "golden.json").write_text(json.dumps({
        "model": base, "problem": problem, "kind": kind, "weights": weights, "rank": RANK, "alpha": ALPHA,
        "labels": ["value"] if problem == "regression" else LABELS,
        "examples": examples, "logits": logits.tolist(), "loss": loss.item(),
        "optimizer": {"learning_rate": learning_rate, "weight_decay": DECAY, "max_grad_norm": CLIP, "batch": BATCH},
        "without_gradient": blind, "steps": steps,
    }) + "\n")


def main(wanted):
    torch.set_num_threads(1)
    for seed, name in enumerate(RUNS, start=300):
        if not wanted or name in wanted:
            make(name, seed)


main(sys.argv[1:])
