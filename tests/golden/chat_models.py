"""Two tiny random models with tokenizer and chat template, whole Hugging Face folders: llama-tiny and gpt2-tiny."""
import json

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

TEXT = """The quick brown fox jumps over the lazy dog. A user asks and the assistant answers.
What is the weather like in the north today? It is cold, and there will be rain in the evening.
Please classify this sentence: the food was great and the service was friendly. positive
Please classify this sentence: the food was bad and the service was slow. negative
I would like to return my order because it arrived late. You can return it within thirty days.
""".splitlines() * 4

CHAT_TEMPLATE = (
    "{{ bos_token if bos_token is defined and bos_token else '' }}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>"]
VOCAB = 384


def tokenizer(with_bos):
    """Byte-level BPE of VOCAB tokens, the special ones first: ids 0 to 3."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(TEXT, trainer)
    assert made.get_vocab_size() == VOCAB
    byte_level = processors.ByteLevel(trim_offsets=False)
    bos = processors.TemplateProcessing(
        single="<|begin_of_text|> $A",
        pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
        special_tokens=[("<|begin_of_text|>", made.token_to_id("<|begin_of_text|>"))],
    )
    made.post_processor = processors.Sequence([byte_level, bos]) if with_bos else byte_level
    return made


def randomize(model, seed, spread=1.0):
    """Every parameter away from its special values: no zero bias, no norm weight of exactly one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                parameter.copy_(0.1 * noise + (1.0 if "norm" in name.lower() or "ln_" in name and name.endswith("weight") else 0.0))
            else:
                parameter.copy_(noise * spread / parameter.shape[-1] ** 0.5)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_tokenizer(folder, with_bos):
    tokenizer(with_bos).save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {
        "add_bos_token": with_bos,
        "bos_token": "<|begin_of_text|>" if with_bos else None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "model_max_length": 256,
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    })
    write_json(folder / "generation_config.json", {
        **({"bos_token_id": 3} if with_bos else {}),
        "eos_token_id": [2, 0],
        "pad_token_id": 0,
    })


def make(folder, model, with_bos, seed):
    randomize(model, seed)
    model.save_pretrained(folder)
    write_tokenizer(folder, with_bos)


def llama_tiny(folder):
    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=True,
        bos_token_id=3, eos_token_id=[2, 0], pad_token_id=0,
    )
    make(folder, transformers.LlamaForCausalLM(config), with_bos=True, seed=1)


def gpt2_tiny(folder):
    config = transformers.GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=256,
        bos_token_id=None, eos_token_id=2, pad_token_id=0,
    )
    make(folder, transformers.GPT2LMHeadModel(config), with_bos=False, seed=2)


MODELS = {"llama-tiny": llama_tiny, "gpt2-tiny": gpt2_tiny}
