"""lm-evaluation-harness through `schmidt serve` beside `schmidt eval --tasks`: the same answers.

    python -m venv harness && harness/bin/pip install "lm-eval[api]==0.4.13"
    harness/bin/python python/compare_server.py MODEL --data ../shared/data/benchmarks

The harness asks the server as its `local-completions` model, with its own definitions of the
tasks and the files of --data. For each task: the share of questions (in the limit) with the same
choice or the same extracted answer, both scores, and seconds on the clock.
"""

import argparse
import os
import time
from pathlib import Path

from compare_harness import ROOT, harness_answers, schmidt_answers
from served import served


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", default="hellaswag:50,boolq:50,triviaqa:20,gsm8k:5",
                        help="name:limit or name:limit:shots, ..")
    parser.add_argument("--schmidt", type=Path, default=ROOT / "build/release/bin/schmidt")
    parser.add_argument("--concurrent", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    from lm_eval.api.registry import get_model

    # `eval` multiplies without rounding to int8: so does the server then.
    with served(options.schmidt, options.model, "--exact", "--threads", options.threads) as server:
        lm = get_model("local-completions")(base_url=server.url + "/v1/completions", model="",
                                            batch_size=4, num_concurrent=options.concurrent)
        print("| task | questions | same answer | score | through the server | schmidt eval "
              "| server s | eval s |\n|---|---|---|---|---|---|---|---|", flush=True)
        for part in options.tasks.split(","):
            task, limit, *rest = part.split(":")
            shots = int(rest[0]) if rest else None
            begun = time.monotonic()
            theirs, their_scores, _ = harness_answers(lm, task, int(limit), shots, options.data)
            between = time.monotonic()
            ours, our_scores, _ = schmidt_answers(options, task, int(limit), shots)
            ended = time.monotonic()
            same = sum(ours[key] == theirs[key] for key in theirs)
            for key in their_scores:
                if "," in key and "stderr" not in key:
                    print(f"| {task} | {len(theirs)} | {100 * same / len(theirs):.1f} % | {key} "
                          f"| {their_scores[key]:.4f} | {our_scores[key]:.4f} "
                          f"| {between - begun:.1f} | {ended - between:.1f} |", flush=True)


if __name__ == "__main__":
    main()
