"""What a GGUF file that schmidt wrote is worth in llama.cpp: size, perplexity beside schmidt's, speed.

    python compare_exports.py --text FILE -o WORK NAME=MODEL[:TYPE] .. [--tokens 4096] [--json OUT.json]

Run it by a Python that has llama-cpp-python. Each MODEL is exported (`export --to gguf`, matrices in
TYPE where it is given), low ranks beside weights as an adapter. Perplexities are of the same tokens
in windows of 512: in llama.cpp of the export, in schmidt of what was exported, the GGUF file where
TYPE rounded it, else MODEL. Speeds are llama.cpp's, prefill of 512 tokens and 32 tokens after 16,
over those of the first row; all take turns, and the median over the rounds is printed.
"""

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path

import torch
from interop import ROOT, LlamaCpp, Schmidt
from served import served

CONTEXT = 512


def nll(model: LlamaCpp, ids: list[int]) -> float:
    """Nats a token: tokens 2 .. 512 of each window."""
    total, count = 0.0, 0
    for begin in range(0, len(ids) - CONTEXT + 1, CONTEXT):
        window = ids[begin:begin + CONTEXT]
        model.forget()
        scores = model.logits(window)[:-1].double().log_softmax(-1)
        total -= scores.gather(1, torch.tensor(window[1:])[:, None]).sum().item()
        count += CONTEXT - 1
    return total / count


def our_nll(program: Path, model: Path, ids: list[int]) -> float:
    """The same by the server, which is asked for the prompt's own probabilities."""
    total, count = 0.0, 0
    with served(program, model, "--exact", "--dtype", "float32") as server:
        for begin in range(0, len(ids) - CONTEXT + 1, CONTEXT):
            answer = server.post("/v1/completions", {
                "prompt": [ids[begin:begin + CONTEXT]], "max_tokens": 0, "echo": True,
                "logprobs": 1})
            total -= sum(answer["choices"][0]["logprobs"]["token_logprobs"][1:])
            count += CONTEXT - 1
    return total / count


def speeds(model: LlamaCpp) -> dict[str, float]:
    model.forget()
    begun = time.perf_counter()
    model.read(list(range(CONTEXT)))
    prefill = CONTEXT / (time.perf_counter() - begun)
    model.forget()
    model.read(list(range(16)))
    begun = time.perf_counter()
    for token in range(32):
        model.read([token])
    return {"prefill": prefill, "decode": 32 / (time.perf_counter() - begun)}


def size_of(path: Path) -> int:
    files = [path] if path.is_file() else list(path.glob("*.gguf"))
    return sum(file.stat().st_size for file in files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL[:TYPE]")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the exports")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--schmidt", type=Path, default=ROOT / "build/release/bin/schmidt")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    schmidt = Schmidt(options.schmidt)
    text = options.text.read_text()[:20 * options.tokens]

    found: dict[str, dict] = {}
    opened: dict[str, LlamaCpp] = {}
    for named in options.models:
        name, _, model = named.partition("=")
        path, _, kind = model.partition(":")
        # A file, or a folder of base and adapter where there are low ranks beside weights.
        out = schmidt.export(Path(path), "gguf", options.out / name.replace(" ", "-"),
                             *(["--type", kind] if kind else []))
        if kind and out.is_dir():
            sys.exit(f"error: {name}: expected no type beside an adapter, whose base it would round")
        opened[name] = LlamaCpp(out, threads=options.threads)
        ids, _ = schmidt.logprobs(Path(path), text, 0)
        ids = ids[:options.tokens]
        theirs = nll(opened[name], ids)
        ours = our_nll(options.schmidt, out if kind else Path(path), ids)
        found[name] = {"bytes": size_of(out), "llama.cpp": math.exp(theirs),
                       "schmidt": math.exp(ours), "ratio": math.exp(theirs - ours)}
        print(f"{name}: {found[name]}", file=sys.stderr, flush=True)

    rounds = {name: [] for name in opened}
    for _ in range(options.rounds):
        for name, model in opened.items():
            rounds[name].append(speeds(model))
    first = next(iter(opened))
    print("| export | MB | llama.cpp | schmidt | ratio | prefill | decode |\n"
          "|---|---|---|---|---|---|---|")
    for name, of in found.items():
        for test in ("prefill", "decode"):
            of[test] = statistics.median(mine[test] / base[test] for mine, base in
                                         zip(rounds[name], rounds[first], strict=True))
        print(f"| {name} | {of['bytes'] / 1e6:.1f} | {of['llama.cpp']:.3f} | {of['schmidt']:.3f} "
              f"| {of['ratio']:.4f} | {of['prefill']:.2f} | {of['decode']:.2f} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
