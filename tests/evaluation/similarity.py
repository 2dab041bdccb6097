"""Writes similarity.json: the metrics of text_similarity by sacrebleu 2.6, rouge-score 0.1.2, rapidfuzz 3.14 and nltk 3.10.

    pip install sacrebleu rouge-score rapidfuzz nltk && python tests/evaluation/similarity.py
"""
import json
import random
from pathlib import Path

import sacrebleu
from nltk.stem import PorterStemmer
from nltk.tokenize import wordpunct_tokenize
from nltk.translate.gleu_score import sentence_gleu
from nltk.translate.meteor_score import meteor_score
from rapidfuzz import fuzz
from rouge_score import rouge_scorer
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a


class NoSynonyms:
    """Stands in for WordNet."""

    def synsets(self, word):
        return []


random.seed(11)
PAIRS = [
    ("The cat sat on the mat.", "The cat sat on the mat."),
    ("the cat is on the mat", "There is a cat on the mat."),
    ("It is a guide to action which ensures that the military always obeys the commands of the party",
     "It is a guide to action that ensures that the military will forever heed Party commands"),
    ("Running quickly, the organizations controlled generalizations.", "The organization runs quick: generalization of control."),
    ("Zwölf Boxkämpfer jagen Viktor", "Zwölf Boxkämpfer jagen Eva."),
    ("", ""), ("", "x"), ("x", ""), ("one", "one"), ("one", "two"), ("a b", "b a"),
    ("smile 😀. ok", "smile 😀 . ok 😀"), ("price $1,234.56 (10% off)", "costs $1,234.56, 10% off"),
    ("the the the the", "the cat"), ("kitten", "sitting"), ("naïve café", "naive cafe"), ("中文 文本", "中文 测试"),
]
words = "a the cat dogs running jumps jumped quickly over under agreed relational 3 4,5 end. now, well-known 10-fold".split()
for _ in range(40):
    reference = random.choices(words, k=random.randint(1, 20))
    prediction = [w if random.random() < 0.7 else random.choice(words) for w in reference if random.random() < 0.9]
    PAIRS.append((" ".join(prediction), " ".join(reference)))

rouge = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rouge3", "rouge4", "rouge5", "rougeL"])
tokens = lambda text: Tokenizer13a()(text.rstrip()).split()
stemmer = PorterStemmer(PorterStemmer.MARTIN_EXTENSIONS)


def metrics(prediction, reference):
    scores = rouge.score(reference, prediction)
    return {
        "bleu": sacrebleu.sentence_bleu(prediction, [reference]).score / 100,
        "gleu": sentence_gleu([tokens(reference)], tokens(prediction)),
        "meteor": meteor_score([wordpunct_tokenize(reference)], wordpunct_tokenize(prediction), stemmer=stemmer, wordnet=NoSynonyms()),
        "fuzzy_match": fuzz.ratio(prediction, reference) / 100,
        **{f"rouge_{n}": scores[f"rouge{n}"].fmeasure for n in "12345"},
        "rouge_l": scores["rougeL"].fmeasure,
    }


golden = [{"prediction": p, "reference": r, "scores": metrics(p, r)} for p, r in PAIRS]
path = Path(__file__).parent / "similarity.json"
path.write_text(json.dumps(golden, indent=1, ensure_ascii=False, default=float) + "\n")
