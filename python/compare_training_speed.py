"""Training speed of schmidt beside transformers in eager mode.

    .venv/bin/python python/compare_training_speed.py [--compressed FOLDER]

One step is forward, cross entropy of every position, backward through everything and
AdamW on float32 masters, of models/smollm2.gguf in bfloat16: transformers by autocast
and the fused AdamW, schmidt by build/release/bin/train_step_bench. Same batch, context,
threads and trained parameters; without and with the embedding frozen. The sides take
turns round by round, so that a drift of the machine's speed hits all; ratios are taken
within a round, their median is printed. On one thread CPU time counts, which other work
on the machine disturbs less. With --compressed a third side trains that
folder, and its ratio is to our own dense model.
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


class Transformers:
    """The dense model and its optimizer, trained step by step."""

    def __init__(self, options, frozen: bool):
        self.model = load_smollm2().train()
        self.model.set_attn_implementation(options.attention)
        self.model.get_input_embeddings().weight.requires_grad_(not frozen)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0, fused=True)
        self.clock = time.process_time if options.threads == 1 else time.perf_counter
        self.ids = torch.randint(0, self.model.config.vocab_size, (options.batch, options.context))

    def seconds(self) -> float:
        start = self.clock()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = self.model(self.ids, labels=self.ids, use_cache=False).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return self.clock() - start


def schmidt_seconds(options, model: Path, frozen: bool) -> float:
    command = [options.bench, model, "-b", options.batch, "-c", options.context]
    command += ["-r", 1, "--json"] + (["--freeze-embedding"] if frozen else [])
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    output = subprocess.run(
        [str(part) for part in command], check=True, capture_output=True, env=environment
    ).stdout
    return json.loads(output)["seconds"]


def compare(options, frozen: bool) -> None:
    theirs = Transformers(options, frozen)
    tokens = options.batch * options.context
    rounds = []
    for _ in range(options.rounds):
        # The better of two on either side: the first one takes memory from the system.
        times = {"transformers": min(theirs.seconds(), theirs.seconds())}
        times["schmidt"] = schmidt_seconds(options, SMOLLM2, frozen)
        if options.compressed:
            times["compressed"] = schmidt_seconds(options, options.compressed, frozen)
        rounds.append(times)
    trained = "all but the embedding" if frozen else "all"
    for ours, yardstick in (("schmidt", "transformers"), ("compressed", "schmidt")):
        if ours not in rounds[0]:
            continue
        ratios = sorted(times[yardstick] / times[ours] for times in rounds)
        rates = [tokens / statistics.median(t[side] for t in rounds) for side in (yardstick, ours)]
        print(
            f"| {trained} | {ours} / {yardstick} | {rates[0]:.0f} | {rates[1]:.0f} "
            f"| {statistics.median(ratios):.2f} | {ratios[0]:.2f} | {ratios[-1]:.2f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, default=ROOT / "build/release/bin/train_step_bench")
    parser.add_argument("--compressed", type=Path, help="a compressed checkpoint of the same model")
    parser.add_argument("-b", "--batch", type=int, default=4)
    parser.add_argument("-c", "--context", type=int, default=512)
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--attention", default="sdpa", choices=("sdpa", "eager"))
    parser.add_argument("--trained", default="both", choices=("both", "all", "blocks"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| trained | sides | tokens/s | tokens/s | ratio (median) | lowest | highest |")
    print("|---|---|---|---|---|---|---|")
    for frozen, name in ((False, "all"), (True, "blocks")):
        if options.trained in ("both", name):
            compare(options, frozen)


if __name__ == "__main__":
    main()
