"""Held-out perplexity and divergence of healing runs against the tokens they trained on.

usage: healing_curve.py NAME=heal.jsonl [NAME=heal.jsonl ..] -o FIGURE.svg [--value kl]
                        [--title TITLE] [--dense VALUE]

Reads the logs of `schmidt heal`. Prints the points as a Markdown table and draws them, with a
line for the dense model where its value is given. FIGURE.json holds what FIGURE.svg shows.
"""

import argparse
import json
import math
from pathlib import Path

from line_chart import Figure, save

LABELS = {"perplexity": "perplexity of the held-out sequences",
          "kl": "KL from the original on the held-out sequences"}


def points_of(log: Path, value: str) -> list[tuple[float, float]]:
    """(thousand tokens, value), one for each time the held-out sequences were measured."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    run = next(line["run"] for line in lines if "run" in line)
    tokens_a_step = run["batch"] * run["context"]
    points = []
    for line in lines:
        if "held_out_loss" in line:
            measured = (math.exp(line["held_out_cross_entropy"]) if value == "perplexity"
                        else line["held_out_kl"])
            points.append((line["step"] * tokens_a_step / 1e3, measured))
    return points


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("logs", nargs="+", metavar="NAME=LOG")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--value", choices=LABELS, default="perplexity")
    parser.add_argument("--title", default="Healing")
    parser.add_argument("--dense", type=float)
    options = parser.parse_args()
    curves = {}
    for named in options.logs:
        name, _, log = named.partition("=")
        curves[name] = points_of(Path(log), options.value)
    print(f"| run | thousand tokens | {options.value} |\n|---|---|---|")
    for name, points in curves.items():
        for tokens, measured in points:
            print(f"| {name} | {tokens:.0f} | {measured:.3f} |")
    save(Figure(options.title, "thousand tokens", LABELS[options.value], curves, log_y=True,
                dense=options.dense), options.out)


if __name__ == "__main__":
    main()
