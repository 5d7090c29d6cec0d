"""What draft models bring: proposals accepted, and time with a draft over time without one.

usage: drafts.py PROGRAM MODEL DRAFT [DRAFT ..] [--dtype bfloat16] [-n 128] [-r 3] [--threads 2]
                 [--p-min P] [--draft-tokens N] [--temperature T]

Every round answers the same questions, in ChatML, without a draft and with each of them; speeds are
of the answers alone, without loading. "same" counts answers that are the model's own to the last
token: they may part where two tokens are as good as equal. Prints a Markdown table.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
from pathlib import Path

QUESTIONS = (
    "What is the capital of France, and what is it known for?",
    "Explain in a few sentences how a rainbow comes about.",
    "Write a short story about a fox who learns to share.",
    "Write a Python function that returns the n-th Fibonacci number.",
    "List five ways to save energy at home.",
    "How do I make a simple tomato sauce?",
)


def answers(options: argparse.Namespace, draft: Path | None) -> dict:
    """The ids of every answer, tokens a second over all, and what came of the draft."""
    command = [options.program, "generate", options.model, "--json", "--verbose"]
    command += ["-n", options.tokens, "--temperature", options.temperature]
    command += ["--dtype", options.dtype, "--threads", options.threads]
    if draft:
        command += ["--draft", draft]
        for flag in ("p_min", "tokens"):
            value = getattr(options, f"draft_{flag}")
            if value is not None:
                command += [f"--draft-{flag.replace('_', '-')}", value]
    for question in QUESTIONS:
        command += ["-p", f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    run = subprocess.run([str(part) for part in command], check=True, capture_output=True,
                         text=True, env=environment)
    out = json.loads(run.stdout)
    tokens, seconds = re.search(r"(\d+) tokens in ([\d.]+) seconds", run.stderr).groups()
    ids = [answer["ids"] for answer in out["continuations"]]
    return {"ids": ids, "rate": int(tokens) / float(seconds), "draft": out.get("draft")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("drafts", type=Path, nargs="+")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("-n", "--tokens", type=int, default=128, help="of each answer")
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--p-min", type=float, dest="draft_p_min")
    parser.add_argument("--draft-tokens", type=int)
    options = parser.parse_args()

    rounds = [[answers(options, draft) for draft in (None, *options.drafts)]
              for _ in range(options.rounds)]
    print("| draft | proposed | accepted | same | tokens/s | ratio | lowest | highest |")
    print("|---|---|---|---|---|---|---|---|")
    for i, name in enumerate(["none", *(draft.name for draft in options.drafts)]):
        own = [of_round[i] for of_round in rounds]
        ratios = sorted(of_round[i]["rate"] / of_round[0]["rate"] for of_round in rounds)
        last = own[-1]
        cells = [name, "", ""]
        if last["draft"]:
            proposed, accepted = last["draft"]["proposed"], last["draft"]["accepted"]
            cells[1:] = [str(proposed), f"{accepted / max(proposed, 1):.0%}"]
        same = sum(a == b for a, b in zip(last["ids"], rounds[-1][0]["ids"], strict=True))
        cells += [f"{same} of {len(QUESTIONS)}",
                  f"{statistics.median(run['rate'] for run in own):.1f}",
                  *(f"{r:.2f}" for r in (statistics.median(ratios), ratios[0], ratios[-1]))]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
