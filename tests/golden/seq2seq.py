"""Tiny random encoder-decoders without tokenizers, and what transformers and PEFT compute and generate with them.

As in `compute.py`: float64, every example of a packed row alone in a batch of one, and without a cache (transformers makes one
for as many layers as the encoder has). A micro-batch has rows of sources and rows of answers; an example is in the same row of both.
"""
import json
import random
import shutil

import peft
import sentencepiece
import torch
import transformers
from chat_models import TEXT, randomize, write_json
from compute import (
    ALPHA, RANK, float32, save_adapter, trained, write_numbers, write_trajectory,
)
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from variants import VOCAB

SOURCE_LENGTH, TARGET_LENGTH = 24, 20
# (tokens of the source, tokens of the answer with its start) of the examples in each row.
LAYOUTS = [[[(10, 4), (5, 9), (6, 5)], [(20, 17)]], [[(24, 20)], [(5, 13), (13, 6)]]]
FULL = {"t5", "t5-v1.1", "bart", "marian"}
TRAJECTORIES = FULL
# Low enough that after twenty steps of these models rounding errors have not grown.
LEARNING_RATE = {"lora": 1e-2, "full": 5e-3}
START, EOS, PAD = 3, 2, 0

T5 = dict(
    vocab_size=VOCAB, d_model=32, d_kv=12, d_ff=48, num_layers=2, num_decoder_layers=3, num_heads=4,
    relative_attention_num_buckets=8, relative_attention_max_distance=12,
    pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=START,
)
BART = dict(
    vocab_size=VOCAB, d_model=32, encoder_layers=2, decoder_layers=3, encoder_attention_heads=4, decoder_attention_heads=2,
    encoder_ffn_dim=48, decoder_ffn_dim=40, max_position_embeddings=64,
    pad_token_id=PAD, bos_token_id=1, eos_token_id=EOS, decoder_start_token_id=START, forced_eos_token_id=None,
)
MARIAN = {**BART, "activation_function": "swish", "scale_embedding": True}


def likelier_end(model):
    """Answers that end: the bias of the logits is not zero in Marian's models."""
    generator = torch.Generator().manual_seed(7)
    model.final_logits_bias.copy_(0.3 * torch.randn(model.final_logits_bias.shape, generator=generator))
    model.final_logits_bias[0, EOS] = 4.0


def rules_of_answers(folder):
    """A first token that is always the same, and tokens that never come, as many-to-many translations have."""
    path = folder / "generation_config.json"
    write_json(path, {**json.loads(path.read_text()), "forced_bos_token_id": 7, "bad_words_ids": [[PAD], [11]]})


def t5_as_published(folder):
    """The first T5 files hold the embedding three times and a bias that nothing reads."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for side in ("encoder", "decoder"):
        tensors[f"{side}.embed_tokens.weight"] = tensors["shared.weight"].clone()
    tensors["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.ones(8, 4)
    save_file(tensors, path, metadata={"format": "pt"})


def old_v11(folder):
    """The config as transformers 4 wrote it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for name in ("scale_decoder_outputs", "dense_act_fn", "is_gated_act"):
        config.pop(name, None)
    config["tie_word_embeddings"] = False
    config["torch_dtype"] = config.pop("dtype")
    write_json(path, config)


def bart_as_base(folder):
    """As bart-base is published: a model without an output layer, names without a prefix."""
    path = folder / "model.safetensors"
    tensors = {name.removeprefix("model."): tensor for name, tensor in load_file(path).items() if "final_logits" not in name}
    save_file(tensors, path, metadata={"format": "pt"})
    path = folder / "config.json"
    write_json(path, {**json.loads(path.read_text()), "architectures": ["BartModel"]})


def make(model_class, config_class, settings, *, untied=False, change=None, after=None):
    def write(folder, seed):
        model = model_class(config_class(**settings))
        if untied:
            model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
        # Scores of T5 are not scaled: with larger weights its attention is all on one token, where gradients are rounding errors.
        randomize(model, seed, spread=0.7)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "embed_positions" in name and not parameter.requires_grad:
                    parameter.copy_(model.model.encoder.embed_positions.create_weight())
            if change:
                change(model)
        model.save_pretrained(folder)
        if after:
            after(folder)
    return write


def t5(settings, **more):
    return make(transformers.T5ForConditionalGeneration, transformers.T5Config, {**T5, **settings}, **more)


def bart(settings, **more):
    return make(transformers.BartForConditionalGeneration, transformers.BartConfig, {**BART, **settings}, **more)


def marian(settings, **more):
    return make(
        transformers.MarianMTModel, transformers.MarianConfig, {**MARIAN, **settings}, change=likelier_end, **more,
    )


TEXTS = [
    "The quick brown fox jumps over the lazy dog.", "What is  the weather like?", "Größe: 12 km²", "", " a ", "r abc", "naïve ﬁancée",
    "tabs\tand\nlines",
]


def unigram():
    """As T5's: SentencePiece's word marks, ids 0 to 2 for padding, end and unknown, the end after every text."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    made.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    special = [AddedToken(text, special=True, normalized=False) for text in ("<pad>", "</s>", "<unk>")]
    trainer = trainers.UnigramTrainer(vocab_size=256, special_tokens=special, unk_token="<unk>", show_progress=False)
    made.train_from_iterator(TEXT, trainer)
    made.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    return made


def write_t5_tiny(folder, seed):
    """A whole folder with a tokenizer and without a chat template, and what Python's tokenizer makes of some texts."""
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer = unigram()
    settings = {
        **T5, "vocab_size": tokenizer.get_vocab_size(), "num_decoder_layers": 2, "feed_forward_proj": "gated-gelu",
        "eos_token_id": 1, "decoder_start_token_id": 0, "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128,
        "tie_word_embeddings": False,
    }
    # So that what is learnt below the output layer, which stays as it is, can make a token probable.
    def louder(model):
        model.lm_head.weight.mul_(4)
    make(transformers.T5ForConditionalGeneration, transformers.T5Config, settings, untied=True, change=louder)(folder, seed)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "T5TokenizerFast", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "model_max_length": 512,
    })
    encoded = [tokenizer.encode(text).ids for text in TEXTS]
    write_json(folder / "texts.json", [
        {"text": text, "ids": ids, "decoded": tokenizer.decode(ids)} for text, ids in zip(TEXTS, encoded)
    ])


GERMAN = """Der schnelle braune Fuchs springt über den faulen Hund. Ein Nutzer fragt und der Assistent antwortet.
Wie ist das Wetter heute im Norden? Es ist kalt, und am Abend wird es regnen.
Ich möchte meine Bestellung zurückgeben, weil sie zu spät kam. Du kannst sie binnen dreißig Tagen zurückgeben.
""".splitlines() * 8
# A ligature and a full-width letter: SentencePiece compiles such rules.
RULES = "FB01\t66 69\nFF21\t41\n"
TRANSLATED = [
    "The quick brown fox", "What is  the weather like? ", ">>deu<< It is cold.", "ﬁne Ａ", "日本 語", "", "kalt über den Hund", "order_12 é",
]


def sentence_pieces(path, lines, size):
    rules = path.parent / "rules.tsv"
    rules.write_text(RULES)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(path.with_suffix("")), vocab_size=size, hard_vocab_limit=False,
        normalization_rule_tsv=str(rules), bos_id=-1, minloglevel=2,
    )
    path.with_suffix(".model").rename(path)
    path.with_suffix(".vocab").unlink()
    rules.unlink()
    read = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [read.id_to_piece(i) for i in range(read.get_piece_size())]


def marian_tokenizer(folder):
    return transformers.MarianTokenizer(*(str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")))


def write_marian_tiny(folder, seed):
    """As the hub has them: two SentencePiece models, a vocabulary, no tokenizer.json. What Python's tokenizer makes of some texts."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    pieces = sentence_pieces(folder / "source.spm", TEXT * 2, 120) + sentence_pieces(folder / "target.spm", GERMAN, 120)
    named = ["</s>", "<unk>", ">>deu<<", *sorted(set(pieces) - {"</s>", "<unk>", "<s>"})]
    # A piece that one of the models has and the vocabulary has not, as in published folders.
    named.remove("▁quick") if "▁quick" in named else named.pop()
    vocab = {piece: at for at, piece in enumerate([*named, "<pad>"])}
    write_json(folder / "vocab.json", vocab)
    pad = vocab["<pad>"]
    make(transformers.MarianMTModel, transformers.MarianConfig, {
        **MARIAN, "vocab_size": len(vocab), "decoder_vocab_size": len(vocab), "decoder_layers": 2, "pad_token_id": pad,
        "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": pad,
    })(folder, seed)
    path = folder / "generation_config.json"
    write_json(path, {**json.loads(path.read_text()), "bad_words_ids": [[pad]]})
    write_json(folder / "tokenizer_config.json", {"source_lang": "eng", "target_lang": "deu"})
    tokenizer = marian_tokenizer(folder)
    write_json(folder / "texts.json", [
        {
            "text": text, "source": tokenizer(text).input_ids, "target": tokenizer(text_target=text).input_ids,
            "decoded": tokenizer.decode(tokenizer(text_target=text).input_ids, skip_special_tokens=True),
        }
        for text in TRANSLATED
    ])


MODELS = {
    "t5": t5({}, after=t5_as_published),
    "t5-v1.1": t5({"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, untied=True),
    "t5-v1.1-old": t5({"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, untied=True, after=old_v11),
    "bart": bart({"scale_embedding": True}),
    "bart-base": bart({}, after=bart_as_base),
    "marian": marian({}),
    "marian-two": marian({"share_encoder_decoder_embeddings": False, "decoder_vocab_size": VOCAB}, after=rules_of_answers),
    "t5-tiny": None,
    "marian-tiny": None,
}
# Folders with tokenizers, in which nothing is computed.
WHOLE = {"t5-tiny": write_t5_tiny, "marian-tiny": write_marian_tiny}


def row_of(parts, length):
    """tokens, positions, segments, padded."""
    tokens = [token for part in parts for token in part]
    padding = length - len(tokens)
    return {
        "tokens": tokens + [0] * padding,
        "positions": [place for part in parts for place in range(len(part))] + [0] * padding,
        "segments": [number for number, part in enumerate(parts) for _ in part] + [-1] * padding,
    }


def micro_batch(layout, rng):
    """Rows of answers, and of sources under names of their own. `targets` are -1 where nothing is to be learnt."""
    rows = []
    for examples in layout:
        sources = [[rng.randrange(VOCAB) for _ in range(source)] for source, _ in examples]
        answers = [[START] + [rng.randrange(VOCAB) for _ in range(target - 1)] for _, target in examples]
        targets = [next for answer in answers for next in answer[1:] + [-1]]
        read = {f"source{key.capitalize()}": row for key, row in row_of(sources, SOURCE_LENGTH).items()}
        padded = targets + [-1] * (TARGET_LENGTH - len(targets))
        rows.append({**row_of(answers, TARGET_LENGTH), "targets": padded, **read})
    return {key: [row[key] for row in rows] for key in rows[0]}


def spans(segments):
    """{segment: (start, end)} of one row."""
    places = {segment: [i for i, s in enumerate(segments) if s == segment] for segment in set(segments) - {-1}}
    return {segment: (found[0], found[-1] + 1) for segment, found in places.items()}


def logits_of(model, batch):
    """[rows, TARGET_LENGTH, vocab]; zeros where a row is padded."""
    out = torch.zeros(len(batch["tokens"]), TARGET_LENGTH, VOCAB, dtype=torch.float64)
    for row, tokens in enumerate(batch["tokens"]):
        read = spans(batch["sourceSegments"][row])
        for segment, (start, end) in spans(batch["segments"][row]).items():
            first, last = read[segment]
            text = torch.tensor([batch["sourceTokens"][row][first:last]])
            answer = torch.tensor([tokens[start:end]])
            made = model(input_ids=text, attention_mask=torch.ones_like(text), decoder_input_ids=answer, use_cache=False)
            out[row, start:end] = made.logits[0]
    return out


def count(batch):
    return sum(target >= 0 for row in batch["targets"] for target in row)


def backward(model, batches):
    """Mean loss over the trained tokens of all micro-batches together, its gradients left in the parameters."""
    model.zero_grad()
    total = sum(count(batch) for batch in batches)
    losses = []
    for batch in batches:
        targets = torch.tensor(batch["targets"]).flatten()
        logits = logits_of(model, batch).flatten(0, 1)
        losses.append(torch.nn.functional.cross_entropy(logits, targets, ignore_index=-1, reduction="sum") / total)
    for loss in losses:
        loss.backward()
    return sum(loss.item() for loss in losses)


CLASSES = {
    "t5": transformers.T5ForConditionalGeneration, "bart": transformers.BartForConditionalGeneration,
    "marian": transformers.MarianMTModel,
}


def load(folder):
    model = CLASSES[folder.name.split("-")[0]].from_pretrained(folder, dtype=torch.float64).eval()
    if folder.name.startswith("marian"):
        # Computed without gradients, but not marked so when they were not in the file.
        for side in (model.model.encoder, model.model.decoder):
            side.embed_positions.weight.requires_grad_(False)
    return model


def load_lora(folder):
    return peft.PeftModel.from_pretrained(load(folder), folder / "adapter", is_trainable=True).double().eval()


def write_adapter(folder, seed):
    wrapped = peft.get_peft_model(load(folder), peft.LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="SEQ_2_SEQ_LM",
    ))
    save_adapter(wrapped, folder, seed, spread=0.12)


# What is asked of transformers' generate; `length_penalty` and `early_stopping` are of the beams.
SEARCHES = [
    {"num_beams": 1},
    {"num_beams": 3},
    {"num_beams": 4, "length_penalty": 0.0, "early_stopping": "never"},
    {"num_beams": 4, "length_penalty": 2.0, "early_stopping": True},
    {"num_beams": 3, "length_penalty": -1.0, "early_stopping": "never"},
    {"num_beams": 2, "length_penalty": 1.5, "early_stopping": "never"},
]


def generations(folder):
    """Answers to three sources under every search, best first, the start left out, up to and with the end."""
    model, rng = load(folder), random.Random(folder.name)
    found = []
    for length in (4, 9, 17):
        source = [rng.randrange(4, VOCAB) for _ in range(length)]
        for search in SEARCHES:
            text = torch.tensor([source])
            made = model.generate(
                input_ids=text, attention_mask=torch.ones_like(text), max_new_tokens=14, do_sample=False, use_cache=False,
                num_return_sequences=search["num_beams"], return_dict_in_generate=True, output_scores=True,
                **search,
            )
            answers = [cut(row.tolist()[1:]) for row in made.sequences]
            scores = made.sequences_scores.tolist() if search["num_beams"] > 1 else []
            found.append({"source": source, "search": search, "max_tokens": 14, "answers": answers, "scores": scores})
    return found


def cut(tokens, ends=(EOS,)):
    """Up to and with the first token that ends an answer."""
    return tokens[: next((at + 1 for at, token in enumerate(tokens) if token in ends), len(tokens))]


def write_beams(path):
    """Texts that whole folders with tokenizers answer or continue, as transformers finds them, best first."""
    found = []
    for name, kind, ends in [
        ("t5-tiny", transformers.AutoModelForSeq2SeqLM, (1,)), ("llama-tiny", transformers.AutoModelForCausalLM, (0, 2)),
        ("marian-tiny", transformers.MarianMTModel, (0,)),
    ]:
        folder = path.parent / name
        model = kind.from_pretrained(folder, dtype=torch.float64).eval()
        tokenizer = marian_tokenizer(folder) if name == "marian-tiny" else Tokenizer.from_file(str(folder / "tokenizer.json"))
        for prompt in ("The quick brown fox", "What is the weather like?"):
            given = torch.tensor([tokenizer(prompt).input_ids if name == "marian-tiny" else tokenizer.encode(prompt).ids])
            for search in SEARCHES:
                made = model.generate(
                    input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=10, do_sample=False,
                    num_return_sequences=search["num_beams"], eos_token_id=list(ends), **search,
                )
                before = 1 if model.config.is_encoder_decoder else given.shape[1]
                answers = [cut(row.tolist()[before:], ends) for row in made]
                texts = [tokenizer.decode(answer, skip_special_tokens=True) for answer in answers]
                found.append({"model": name, "prompt": prompt, "search": search, "max_tokens": 10, "answers": answers, "texts": texts})
    write_numbers(path, found)


def write_single(folder, batch):
    plain, lora = load(folder), load_lora(folder)
    tensors = {"logits": logits_of(plain, batch), "lora_logits": logits_of(lora, batch)}
    numbers = {"loss": backward(plain, [batch]), "lora_loss": backward(lora, [batch])}
    tensors |= {f"lora_gradient.{name}": p.grad for name, p in trained(lora).items()}
    if folder.name in FULL:
        tensors |= {f"gradient.{name}": p.grad for name, p in trained(plain).items()}
    save_file(float32(tensors), folder / "golden.safetensors")
    if folder.name == "t5":
        numbers["distance_buckets"] = distance_buckets()
    write_numbers(folder / "golden.json", {"batch": batch, **numbers, "generations": generations(folder)})


def distance_buckets():
    """The buckets of what lies 0, 1, ... tokens back, for some numbers of buckets and largest distances."""
    bucket = transformers.models.t5.modeling_t5.T5Attention._relative_position_bucket
    settings = [(32, 128), (16, 128), (8, 12), (64, 500), (4, 5)]
    return [
        {"buckets": count, "max_distance": most, "found": bucket(-torch.arange(most + 1), False, count, most).tolist()}
        for count, most in settings
    ]


def without_gradient(model):
    """A bias of all keys changes no attention: its gradient is zero but for rounding."""
    return [
        {"tensor": name, "from": 0, "to": p.shape[0]}
        for name, p in trained(model).items() if name.endswith("k_proj.bias")
    ]


def compute_seq2seq(folder, write, seed):
    if folder.name in WHOLE:
        WHOLE[folder.name](folder, seed)
        return
    shutil.rmtree(folder, ignore_errors=True)
    write(folder, seed)
    write_adapter(folder, seed + 1000)
    rng = random.Random(seed)
    write_single(folder, micro_batch(LAYOUTS[0], rng))
    if folder.name in TRAJECTORIES:
        batches = [[micro_batch(layout, rng) for layout in LAYOUTS] for _ in range(4)]
        for kind in ("lora", "full"):
            model = load_lora(folder) if kind == "lora" else load(folder)
            write_trajectory(
                folder, kind, batches, model=model, peak=LEARNING_RATE[kind], backward=backward, without_gradient=without_gradient,
            )
