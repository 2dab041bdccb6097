"""What llama.cpp computes with GGUF files: python gguf_logits.py '[{"file", "tokens"}, ...]', or {"file", "texts"}.

Prints for tokens the logits after each of them, for texts their tokens, alone and with what is put around a text. Seen with llama-cpp-python 0.3.36.
"""
import json
import sys

import llama_cpp


def answer(case):
    vocabulary_only = "texts" in case
    model = llama_cpp.Llama(
        case["file"], n_ctx=64, logits_all=not vocabulary_only, vocab_only=vocabulary_only, n_threads=1, verbose=False,
        n_gpu_layers=0, flash_attn=False, type_k=0, type_v=0)
    if vocabulary_only:
        texts = [text.encode() for text in case["texts"]]
        return [[model.tokenize(text, add_bos=around, special=False) for text in texts] for around in (False, True)]
    model.eval(case["tokens"])
    return model.scores[: len(case["tokens"])].tolist()


print(json.dumps([answer(case) for case in json.loads(sys.argv[1])]))
