"""Prefill and decode speed of schmidt beside transformers in eager mode.

    .venv/bin/python python/compare_speed.py [--schmidt build/release/bin/schmidt]

Same model (models/smollm2.gguf), threads and dtype; the two take turns (in_turns.py).
"""

import argparse
import time

import torch

from in_turns import options_of, print_head, print_rows, schmidt_rates
from oracles.model import SMOLLM2, load_smollm2


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@torch.inference_mode()
def transformers_rates(model, prompt: int, generate: int) -> dict:
    ids = torch.arange(prompt)[None]

    def prefill():
        model(ids, use_cache=True, logits_to_keep=1).logits.sum().item()

    def decode():
        token, past = torch.ones(1, 1, dtype=torch.int64), None
        for _ in range(generate):
            result = model(token, past_key_values=past, use_cache=True)
            past, token = result.past_key_values, result.logits[:, -1:].argmax(-1)

    return {"prefill": prompt / seconds(prefill), "decode": generate / seconds(decode)}


def main() -> None:
    options = options_of(argparse.ArgumentParser(description=__doc__.splitlines()[0]), generate=64)
    torch.set_num_threads(options.threads)

    model = load_smollm2()
    print_head("dtype", theirs="transformers")
    for dtype in ("float32", "bfloat16"):
        model = model.to(getattr(torch, dtype))
        transformers_rates(model, options.prompt, 4)  # warm up
        print_rows([dtype], options.rounds,
                   lambda: transformers_rates(model, options.prompt, options.generate),
                   lambda: schmidt_rates(options, SMOLLM2, dtype))


if __name__ == "__main__":
    main()
