"""Prefill and decode speed of schmidt beside transformers in eager mode.

    .venv/bin/python python/compare_speed.py [--schmidt build/release/bin/schmidt]

Same model (models/smollm2.gguf), threads and dtype. The two take turns round by
round, so that a drift of the machine's speed hits both; ratios are taken within a
round, their median is printed. Over 1.00: schmidt is faster.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

import torch

from oracles.model import SMOLLM2, load_smollm2

ROOT = Path(__file__).resolve().parents[1]


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


def schmidt_rates(options, dtype: str) -> dict:
    command = [options.schmidt, "bench", SMOLLM2, "-q", "-o", "json", "-r", "1"]
    command += ["-p", options.prompt, "-n", options.generate]
    command += ["--dtype", dtype, "--threads", options.threads]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    output = subprocess.run(
        [str(part) for part in command], check=True, capture_output=True, env=environment
    ).stdout
    rates = [result["tokens_per_second"] for result in json.loads(output)["results"]]
    return dict(zip(("prefill", "decode"), rates, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schmidt", type=Path, default=ROOT / "build/release/bin/schmidt")
    parser.add_argument("-p", "--prompt", type=int, default=512, help="tokens of the prefill test")
    parser.add_argument("-n", "--generate", type=int, default=64, help="tokens of the decode test")
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    model = load_smollm2()
    print("| dtype | test | transformers t/s | schmidt t/s | ratio (median) | lowest | highest |")
    print("|---|---|---|---|---|---|---|")
    for dtype in ("float32", "bfloat16"):
        model = model.to(getattr(torch, dtype))
        transformers_rates(model, options.prompt, 4)  # warm up
        rounds = [
            (transformers_rates(model, options.prompt, options.generate),
             schmidt_rates(options, dtype))
            for _ in range(options.rounds)
        ]
        for test in ("prefill", "decode"):
            theirs = statistics.median(t[test] for t, _ in rounds)
            ours = statistics.median(s[test] for _, s in rounds)
            ratios = sorted(s[test] / t[test] for t, s in rounds)
            print(
                f"| {dtype} | {test} | {theirs:.1f} | {ours:.1f} "
                f"| {statistics.median(ratios):.2f} | {ratios[0]:.2f} | {ratios[-1]:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
