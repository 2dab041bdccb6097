"""Writes heads.json: metrics of classes and numbers by scikit-learn 1.9, SciPy 1.17 and NumPy, for heads.test.ts.

    pip install scikit-learn scipy && python tests/evaluation/heads.py
"""
import json
from pathlib import Path

import numpy
import scipy.stats
from sklearn import metrics

rng = numpy.random.default_rng(11)


def calibration_error(confidence, right, bins=15):
    """Expected calibration error over bins (lower, upper] of equal width."""
    edges = numpy.linspace(0, 1, bins + 1)
    place = numpy.clip(numpy.digitize(confidence, edges, right=True) - 1, 0, bins - 1)
    total = 0.0
    for b in range(bins):
        inside = place == b
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def averages(truth, guess, labels):
    out = {}
    for average in ("macro", "micro"):
        p, r, f, _ = metrics.precision_recall_fscore_support(truth, guess, labels=labels, average=average, zero_division=0)
        out |= {f"{average}_precision": p, f"{average}_recall": r, f"{average}_f1": f}
    p, r, f, s = metrics.precision_recall_fscore_support(truth, guess, labels=labels, zero_division=0)
    out["per_class"] = [{"precision": p[i], "recall": r[i], "f1": f[i], "support": int(s[i])} for i in range(len(p))]
    return out


def single(name, classes, texts, sharpness, missing=()):
    """`missing`: classes that no reference has."""
    probabilities = rng.dirichlet(numpy.full(classes, sharpness), texts)
    kept = [c for c in range(classes) if c not in missing]
    truth = numpy.array([rng.choice(kept) if rng.random() < 0.5 else min(p.argmax(), max(kept)) for p in probabilities])
    truth = numpy.array([t if t in kept else kept[0] for t in truth])
    guess = probabilities.argmax(1)
    labels = list(range(classes))
    return {
        "name": name, "probabilities": probabilities.tolist(), "targets": truth.tolist(),
        "loss": metrics.log_loss(truth, probabilities, labels=labels),
        "accuracy": metrics.accuracy_score(truth, guess),
        "confusion": metrics.confusion_matrix(truth, guess, labels=labels).tolist(),
        "expected_calibration_error": calibration_error(probabilities.max(1), (guess == truth).astype(float)),
        **averages(truth, guess, labels),
    }


def multiple(name, classes, texts):
    probabilities = rng.beta(0.6, 0.9, (texts, classes))
    truth = (rng.random((texts, classes)) < 0.3 + 0.4 * (probabilities > 0.5)).astype(int)
    truth[:, -1] = 0  # a class that no text has
    guess = (probabilities > 0.5).astype(int)
    flat = numpy.clip(probabilities, 1e-12, 1 - 1e-12).ravel()
    return {
        "name": name, "probabilities": probabilities.tolist(),
        "targets": [numpy.flatnonzero(row).tolist() for row in truth],
        "loss": metrics.log_loss(truth.ravel(), flat),
        "accuracy": metrics.accuracy_score(truth, guess),
        "hamming_loss": metrics.hamming_loss(truth, guess),
        "confusion": metrics.multilabel_confusion_matrix(truth, guess).tolist(),
        "expected_calibration_error": calibration_error(probabilities.ravel(), truth.ravel().astype(float)),
        **averages(truth, guess, None),
    }


def regression(name, references, predictions):
    constant = len(set(references)) == 1
    spearman = None if constant or len(set(predictions)) == 1 else scipy.stats.spearmanr(predictions, references).statistic
    return {
        "name": name, "references": list(map(float, references)), "predictions": list(map(float, predictions)),
        "mean_absolute_error": metrics.mean_absolute_error(references, predictions),
        "root_mean_squared_error": metrics.root_mean_squared_error(references, predictions),
        "r2": None if constant else metrics.r2_score(references, predictions),
        "spearman": spearman,
    }


numbers = rng.normal(3, 2, 40)
golden = {
    "single": [single("three classes", 3, 60, 1.0), single("two sure classes", 2, 50, 0.2),
               single("a class that no text has", 4, 40, 0.8, missing=(2,)), single("one text", 3, 1, 1.0)],
    "multiple": [multiple("five classes", 5, 40), multiple("two classes", 2, 3)],
    "regression": [
        regression("numbers", numbers, numbers + rng.normal(0, 1, 40)),
        regression("ties", [1, 1, 2, 3, 3, 3, 5], [2, 1, 2, 2, 4, 3, 4]),
        regression("the same prediction", [1, 2, 3], [2, 2, 2]),
        regression("the same reference", [2, 2, 2], [1, 2, 3]),
        regression("worse than the mean", [1, 2, 3], [3, 2, 1]),
    ],
}
Path(__file__).with_name("heads.json").write_text(json.dumps(golden, indent=1) + "\n")
