"""Speeds of schmidt beside another program's, the two taking turns.

A drift of the machine's speed hits both; ratios are taken within a round, and their median is
printed with the lowest and the highest. Over 1.00: schmidt is faster.
"""

import argparse
import json
import os
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ("prefill", "decode")
Rates = dict[str, float]  # tokens a second of each of TESTS


def options_of(parser: argparse.ArgumentParser, generate: int) -> argparse.Namespace:
    """The options that every comparison has; `generate` is the default of its tokens."""
    parser.add_argument("--schmidt", type=Path, default=ROOT / "build/release/bin/schmidt")
    parser.add_argument("-p", "--prompt", type=int, default=512, help="tokens of the prefill test")
    parser.add_argument("-n", "--generate", type=int, default=generate,
                        help="tokens of the decode test")
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def schmidt_rates(options: argparse.Namespace, model: Path, dtype: str) -> Rates:
    command = [options.schmidt, "bench", model, "-q", "-o", "json", "-r", 1, "--dtype", dtype]
    command += ["-p", options.prompt, "-n", options.generate, "--threads", options.threads]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    output = subprocess.run([str(part) for part in command], check=True, capture_output=True,
                            env=environment).stdout
    rates = [result["tokens_per_second"] for result in json.loads(output)["results"]]
    return dict(zip(TESTS, rates, strict=True))


def print_head(*columns: str, theirs: str) -> None:
    columns += ("test", f"{theirs} t/s", "schmidt t/s", "ratio (median)", "lowest", "highest")
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|", flush=True)


def print_rows(columns: list[str], rounds: int, theirs: Callable[[], Rates],
               ours: Callable[[], Rates]) -> None:
    """A row for each test, which begins with `columns`."""
    measured = [(theirs(), ours()) for _ in range(rounds)]
    for test in TESTS:
        ratios = sorted(o[test] / t[test] for t, o in measured)
        cells = columns + [test, f"{statistics.median(t[test] for t, _ in measured):.1f}",
                           f"{statistics.median(o[test] for _, o in measured):.1f}"]
        cells += [f"{ratio:.2f}" for ratio in (statistics.median(ratios), ratios[0], ratios[-1])]
        print("| " + " | ".join(cells) + " |", flush=True)
