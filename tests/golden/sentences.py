"""bert-tiny: an encoder with a tokenizer, saved by sentence-transformers; and the vectors that it and a causal model make of texts."""
import shutil
import tempfile

import torch
import transformers
from chat_models import TEXT, randomize
from compute import write_numbers
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

VOCAB = 384
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "rain in the evening",
    "I would like to return my order because it arrived late. You can return it within thirty days. " * 3,
    "x",
]


def tokenizer():
    """WordPiece of VOCAB tokens, the special ones first."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    trainer = trainers.WordPieceTrainer(vocab_size=VOCAB, special_tokens=SPECIAL, show_progress=False)
    made.train_from_iterator(TEXT, trainer)
    cls, sep = (made.token_to_id(name) for name in ("[CLS]", "[SEP]"))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
    )
    return transformers.BertTokenizerFast(tokenizer_object=made, model_max_length=128)


def plain_model(folder):
    made = tokenizer()
    config = transformers.BertConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=128,
    )
    model = transformers.BertModel(config)
    randomize(model, 3)
    model.save_pretrained(folder)
    made.save_pretrained(folder)


def sentence_model(folder, mode, normalize):
    modules = [Transformer(str(folder), max_seq_length=96), Pooling(32, pooling_mode=mode)]
    return SentenceTransformer(modules=modules + ([Normalize()] if normalize else []), device="cpu")


def vectors(model):
    return model.double().encode(TEXTS, convert_to_numpy=False, convert_to_tensor=True).tolist()


def last_states(folder):
    """Of a causal model: the state of the last token, divided by its length."""
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float64).eval()
    encode = transformers.AutoTokenizer.from_pretrained(folder)
    states = [model(**encode(text, return_tensors="pt")).last_hidden_state[0, -1] for text in TEXTS]
    return [(state / state.norm()).tolist() for state in states]


def make(here):
    folder = here / "bert-tiny"
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as plain:
        plain_model(plain)
        sentence_model(plain, "mean", True).save(str(folder))
        (folder / "README.md").unlink(missing_ok=True)
        made = {mode: vectors(sentence_model(plain, mode, False)) for mode in ("mean", "cls", "lasttoken")}
        made["normalized"] = vectors(sentence_model(plain, "mean", True))
    made["llama-tiny"] = last_states(here / "llama-tiny")
    write_numbers(here / "embeddings.json", {"texts": TEXTS, "vectors": made})
