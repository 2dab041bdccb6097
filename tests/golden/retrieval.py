"""Retrieval metrics of sentence-transformers over random vectors: some queries with several texts to find, some far away."""
import torch
from compute import write_numbers
from sentence_transformers.evaluation import InformationRetrievalEvaluator
from torch.nn.functional import normalize

QUERIES, TEXTS, WIDTH = 12, 40, 6


def make(here):
    generator = torch.Generator().manual_seed(5)
    corpus = normalize(torch.randn(TEXTS, WIDTH, generator=generator), dim=1)
    relevant = [torch.randperm(TEXTS, generator=generator)[: 1 + i % 4].tolist() for i in range(QUERIES)]
    noise = torch.randn(QUERIES, WIDTH, generator=generator)
    queries = normalize(torch.stack([corpus[own[0]] for own in relevant]) + 0.4 * noise, dim=1)
    evaluator = InformationRetrievalEvaluator(
        queries={str(i): "" for i in range(QUERIES)}, corpus={str(i): "" for i in range(TEXTS)},
        relevant_docs={str(i): {str(place) for place in own} for i, own in enumerate(relevant)},
        mrr_at_k=[TEXTS], ndcg_at_k=[10], precision_recall_at_k=[1, 5, 10], accuracy_at_k=[1], map_at_k=[10],
    )
    scores = (queries @ corpus.T).tolist()
    found = [[{"corpus_id": str(j), "score": score} for j, score in enumerate(row)] for row in scores]
    metrics = evaluator.compute_metrics(found)
    write_numbers(here / "retrieval.json", {
        "corpus": corpus.tolist(), "queries": queries.tolist(), "relevant": relevant,
        "report": {
            **{f"recall_at_{k}": float(metrics["recall@k"][k]) for k in (1, 5, 10)},
            "mrr": float(metrics["mrr@k"][TEXTS]), "ndcg_at_10": float(metrics["ndcg@k"][10]),
        },
    })
