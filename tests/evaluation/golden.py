"""Writes golden.json: text metrics by sacrebleu 2.6, rouge-score 0.1.2 and scikit-learn 1.9, for the tests beside it.

    pip install sacrebleu rouge-score scikit-learn && python tests/evaluation/golden.py
"""
import json
import random
from pathlib import Path

import sacrebleu
from rouge_score import rouge_scorer
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

random.seed(7)
PAIRS = [
    ("The cat sat on the mat.", "The cat sat on the mat."),
    ("the cat is on the mat", "There is a cat on the mat."),
    ("It cost $1,234.56 (about 10% off) - a well-known 20-year-old price.", "It costs $1,234.56, i.e. 10% off, a 20-year price."),
    ("Tom &amp; Jerry said &quot;hi&quot; &lt;b&gt;", "Tom & Jerry said \"hi\" <b>"),
    ("Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich", "Zwölf Boxkämpfer jagen Eva quer über den Sylter Deich."),
    ("line one\nline two", "line one line-\ntwo"),
    ("a\x1cb\u00a0c\u3000d <skipped>", "a b c d"),
    ("smile 😀. ok,😀 3.5.", "smile 😀 . ok, 😀 3.5 ."),
    ("", "something was expected here"),
    ("one", "one"),
    ("the the the the the", "the cat"),
    ("{x}: [1, 2] = f(y) * ~z ^ `q` | a/b \\ c @ d # e ! ?", "{x}: [1, 2] = g(y) * ~z"),
]
words = "a the cat dog runs jumps over under 3 4,5 6.7 end. now, well-known 10-fold".split()
for _ in range(30):
    reference = random.choices(words, k=random.randint(1, 25))
    prediction = [w if random.random() < 0.7 else random.choice(words) for w in reference if random.random() < 0.9]
    PAIRS.append((" ".join(prediction), " ".join(reference)))

CORPORA = {"all": PAIRS, "poor": [PAIRS[1], PAIRS[10]], "no_four_grams": [PAIRS[9]], "short": PAIRS[8:10],
           "nothing": [PAIRS[8]], "good": [PAIRS[0], PAIRS[4]], "random": PAIRS[12:]}
scorer = rouge_scorer.RougeScorer(["rougeL"])
tokenizer = Tokenizer13a()


def classification(name, labels, stray, n):
    references = [random.choice(labels) for _ in range(n)]
    predictions = [r if random.random() < 0.6 else random.choice(labels + stray) for r in references]
    precision, recall, f1, support = precision_recall_fscore_support(references, predictions, labels=labels, zero_division=0)
    macro = precision_recall_fscore_support(references, predictions, labels=labels, average="macro", zero_division=0)
    return {
        "name": name, "labels": labels, "references": references, "predictions": predictions,
        "accuracy": accuracy_score(references, predictions),
        "macro": list(macro[:3]),
        "per_class": {l: [precision[i], recall[i], f1[i], int(support[i])] for i, l in enumerate(labels)},
        "confusion": confusion_matrix(references, predictions, labels=labels).tolist(),
    }


golden = {
    "pairs": [{"prediction": p, "reference": r, "rouge_l": scorer.score(r, p)["rougeL"].fmeasure,
               "tokens": tokenizer(p.rstrip()).split()} for p, r in PAIRS],
    "bleu": {name: {"pairs": [PAIRS.index(pair) for pair in pairs],
                    "score": sacrebleu.corpus_bleu([p for p, _ in pairs], [[r for _, r in pairs]]).score}
             for name, pairs in CORPORA.items()},
    "classification": [classification("two labels", ["negative", "positive"], [], 40),
                       classification("strays", ["high", "low", "mid"], ["none", "no idea"], 60),
                       classification("a label never answered", ["a", "b", "c", "d", "e"], ["x"], 12)],
}
path = Path(__file__).parent / "golden.json"
path.write_text(json.dumps(golden, indent=1, ensure_ascii=False, default=float) + "\n")
