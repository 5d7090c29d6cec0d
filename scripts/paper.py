"""The main job on a real model: inspect, compress, evaluate, generate, one table.

usage: demo.py PROGRAM [--text FILE]
Results stay in demo/. The text that is evaluated is sampled from the original
model (its held-out half) unless FILE is given.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

MODEL = "models/smollm2.gguf"
OUT = Path("demo")
RECIPE = ["--size", "80MB", "--calibration-tokens", "8192", "--steps", "24"]
PROMPT = "The capital of France is"


def call(*args: str) -> str:
    """Runs the program; its progress goes to our stderr, its answer comes back."""
    print("$ " + " ".join(args), file=sys.stderr)
    return subprocess.run(args, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--text", default="self")
    args = parser.parse_args()
    program, text = args.program, args.text

    OUT.mkdir(exist_ok=True)
    compressed = str(OUT / "smollm2-80mb")
    header = call(program, "inspect", MODEL).split("\n\n")[0]
    print(header + "\n")
    sizes = json.loads(
        call(program, "compress", MODEL, *RECIPE, "-o", compressed, "--force", "--json")
    )
    result = json.loads(
        call(program, "eval", compressed, "--reference", MODEL, "--text", text,
             "--max-tokens", "8192", "--seed", "1", "--json")
    )["texts"][0]
    said = {
        name: json.loads(call(program, "generate", path, "--prompt", PROMPT, "-n", "24",
                              "--temperature", "0", "--json"))["text"]
        for name, path in (("original", MODEL), ("compressed", compressed))
    }

    original, kl = result["reference"], result["kl"]
    rows = [
        ("", "original", "compressed"),
        ("parameters", f"{sizes['dense_parameters']:,}", f"{sizes['parameters']:,}"),
        ("MB (the original in float32)", f"{sizes['dense_bytes_float32'] / 1e6:.1f}",
         f"{sizes['bytes'] / 1e6:.1f}"),
        ("bits for each original parameter", "32",
         f"{8 * sizes['bytes'] / sizes['dense_parameters']:.2f}"),
        (f"perplexity ({result['text']}, {result['tokens']} tokens)",
         f"{original['perplexity']:.3f}", f"{result['perplexity']:.3f}"),
        ("KL from the original, mean / 99 %", "0", f"{kl['mean']:.4f} / {kl['p99']:.4f}"),
        ("same most likely token", "100 %", f"{100 * result['top1_agreement']:.1f} %"),
    ]
    widths = [max(len(row[c]) for row in rows) for c in range(3)]
    for row in rows:
        print(f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}")
    for name, continuation in said.items():
        print(f"\n{name}: {PROMPT}{continuation}")
    print(f"\nThe compressed model is in {compressed}: {program} chat {compressed}")


if __name__ == "__main__":
    main()
