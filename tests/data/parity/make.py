"""Makes a small tokenizer of every kind that served models have, and the tokens that Python's tokenizers gives for hard texts.

    python tests/data/parity/make.py

Vocabularies are trained on texts.py itself, so that the hard texts are not all unknown. Each folder gets tokenizer.json and
tokenizer_config.json; tokens.json has the texts and, by folder, their tokens: `ids` without and `whole` with what the tokenizer puts around
a text (special tokens that stand in a text are text), `decoded` what the ids decode to.
Made with tokenizers 0.23, transformers 5.23, sentencepiece 0.2.
"""
import base64
import io
import json
from pathlib import Path

import sentencepiece
import sentencepiece.sentencepiece_model_pb2 as pb
from texts import TEXTS
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent
ENGLISH = [
    "The quick brown fox jumps over the lazy dog. It isn't late; they've gone home, and we'll follow.",
    "A tokenizer turns text into numbers, and numbers into text. Answers begin where the prompt ends.",
] * 8
CORPUS = ENGLISH + [text for text in TEXTS if len(text) < 1000] * 2


def wrap(tokenizer, before, after):
    names = [(name, tokenizer.token_to_id(name)) for name in (before, after) if name]
    one = " ".join(part for part in (before, "$A", after) if part)
    two = " ".join(part for part in (before, "$A", after, "$B", after) if part)
    tokenizer.post_processor = processors.TemplateProcessing(single=one, pair=two, special_tokens=names)


BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def wordpiece(vocab_size, **normalizing):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(**normalizing)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=BERT_SPECIAL, show_progress=False, limit_alphabet=700)
    tokenizer.train_from_iterator(CORPUS, trainer)
    wrap(tokenizer, "[CLS]", "[SEP]")
    return tokenizer, dict(cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]", mask_token="[MASK]")


def bert_uncased():
    return wordpiece(1400, clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)


def bert_cased():
    return wordpiece(1400, clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=False)


def bert_unclean():
    """Accents stay, Chinese is not set apart, nothing is cleaned."""
    return wordpiece(1400, clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=True)


def byte_level(special, normalizer=None, add_prefix_space=False):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700, show_progress=False, special_tokens=special, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


ROBERTA_NAMES = dict(
    bos_token="<s>", eos_token="</s>", unk_token="<unk>", sep_token="</s>", pad_token="<pad>", cls_token="<s>", mask_token="<mask>",
)


def roberta():
    mask = AddedToken("<mask>", special=True, lstrip=True, normalized=False)
    tokenizer = byte_level(["<s>", "<pad>", "</s>", "<unk>", mask])
    sep, cls = ("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer.post_processor = processors.RobertaProcessing(sep, cls, trim_offsets=True, add_prefix_space=False)
    return tokenizer, ROBERTA_NAMES


def modernbert():
    """GPT-NeoX's way: NFC, and runs of blanks as tokens that are not special."""
    tokenizer = byte_level(["[UNK]", "[CLS]", "[SEP]", "[PAD]"], normalizers.NFC())
    tokenizer.add_tokens([AddedToken(" " * n, special=False, normalized=True) for n in range(24, 1, -1)])
    tokenizer.add_special_tokens([AddedToken("[MASK]", special=True, lstrip=True, normalized=False)])
    wrap(tokenizer, "[CLS]", "[SEP]")
    return tokenizer, dict(cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]", mask_token="[MASK]")


# Llama 3's split; Qwen2's takes digits one by one.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLIT_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def split_bytes(steps, normalizer=None, ignore_merges=False):
    """Byte-level after, or among, splits of other kinds."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700, show_progress=False, special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer, dict(bos_token="<|begin|>", eos_token="<|end|>")


def llama3():
    tokenizer, names = split_bytes([pre_tokenizers.Split(Regex(WORDS), "isolated"), BYTES], ignore_merges=True)
    wrap(tokenizer, "<|begin|>", None)
    return tokenizer, names


def qwen2():
    words = WORDS.replace(r"\p{N}{1,3}", r"\p{N}")
    return split_bytes([pre_tokenizers.Split(Regex(words), "isolated"), BYTES], normalizers.NFC())


def falcon():
    """Splits what it has spelled in bytes once more."""
    return split_bytes([
        pre_tokenizers.Punctuation("contiguous"), SPLIT_BYTES, pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated"),
    ])


def command_r():
    """SmolLM's and StarCoder's, too, but for the normalization."""
    return split_bytes([pre_tokenizers.Digits(individual_digits=True), SPLIT_BYTES], normalizers.NFC())


def spelt_out(vocab_size):
    """A BPE of letters that spells in bytes what it has no letter for, to be trained."""
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, show_progress=False, special_tokens=special + [f"<0x{byte:02X}>" for byte in range(256)],
        max_token_length=12, limit_alphabet=120,
    )
    return Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True)), trainer, special


def gemma():
    """Blanks are letters, and nothing is put before a text."""
    tokenizer, trainer, special = spelt_out(800)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer = only_special(tokenizer, special)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    wrap(tokenizer, "<s>", None)
    return tokenizer, dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def only_special(tokenizer, special, **changes):
    """Bytes are tokens of the vocabulary, not added ones."""
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in special]
    return Tokenizer.from_str(json.dumps(state | changes))


def byte_fallback():
    """Llama 2's way: the blank is a letter, and what the vocabulary lacks is spelt in bytes."""
    tokenizer, trainer, special = spelt_out(800)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer = only_special(tokenizer, special, pre_tokenizer=None)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    wrap(tokenizer, "<s>", None)
    return tokenizer, dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def sentencepiece_model():
    """A Unigram model of SentencePiece's own, with its nmt_nfkc normalization."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in CORPUS for line in text.splitlines() if line), model_writer=out, model_type="unigram",
        vocab_size=1200, character_coverage=0.98, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2, num_threads=1,
        hard_vocab_limit=False,
    )
    return pb.ModelProto.FromString(out.getvalue())


PIECES = None


def unigram(names, normalizer_of):
    global PIECES
    PIECES = PIECES or sentencepiece_model()
    pieces = [(piece.piece, round(piece.score, 6)) for piece in PIECES.pieces[3:]]
    vocab = [(name, 0.0) for name in names] + pieces
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=names.index("<unk>"), byte_fallback=False))
    tokenizer.normalizer = normalizer_of(PIECES.normalizer_spec.precompiled_charsmap)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return tokenizer


def t5():
    tokenizer = unigram(["<pad>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_1>"], normalizers.Precompiled)
    metaspace = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    wrap(tokenizer, None, "</s>")
    return tokenizer, dict(eos_token="</s>", unk_token="<unk>", pad_token="<pad>")


def xlm_roberta():
    """As published for XLM-RoBERTa, but that the normalization is Unicode's own: the other folder has SentencePiece's."""
    blanks = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer = unigram(["<s>", "<pad>", "</s>", "<unk>"], lambda _: normalizers.Sequence([normalizers.NFKC(), blanks]))
    tokenizer.add_special_tokens([AddedToken("<mask>", special=True, lstrip=True, normalized=False)])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    wrap(tokenizer, "<s>", "</s>")
    return tokenizer, ROBERTA_NAMES


KINDS = {
    "bert-uncased": bert_uncased,
    "bert-cased": bert_cased,
    "bert-unclean": bert_unclean,
    "roberta": roberta,
    "modernbert": modernbert,
    "llama3": llama3,
    "qwen2": qwen2,
    "falcon": falcon,
    "command-r": command_r,
    "byte-fallback": byte_fallback,
    "gemma": gemma,
    "t5": t5,
    "xlm-roberta": xlm_roberta,
}


def write(name, make):
    tokenizer, names = make()
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **names)
    tokens = []
    for text in TEXTS:
        ids = fast(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        whole = fast(text, add_special_tokens=True, split_special_tokens=True)["input_ids"]
        tokens.append({"ids": ids, "whole": whole, "decoded": fast.decode(ids, clean_up_tokenization_spaces=False)})
    return tokens


if __name__ == "__main__":
    tokens = {name: write(name, make) for name, make in KINDS.items()}
    (HERE / "tokens.json").write_text(json.dumps({"texts": TEXTS, "tokens": tokens}) + "\n")
