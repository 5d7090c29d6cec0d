"""What a GPU gives beside the CPU: speeds of bench, eval, heal, compress and a factorization.

usage: gpu_check.py PROGRAMS MODEL [--devices cpu,cuda] [--tokens 8192] [--json OUT.json]

PROGRAMS is the folder of `schmidt` and `factorize_bench`. The text is the model's own. Seconds of
eval and compress are those of the whole command; tokens a second of heal leave its start out. The
last column is the last device over the first. `scripts/gpu_check.sh` builds and runs it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


class Check:
    def __init__(self, programs: Path, model: str, tokens: int, work: Path):
        self.programs, self.model, self.tokens, self.work = programs, model, tokens, work

    def run(self, program: str, *arguments: object) -> str:
        command = [str(self.programs / program), *map(str, arguments)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"error: {' '.join(command)} ended with {done.returncode}")
        return done.stdout

    def sample(self) -> None:
        self.run("schmidt", "sample", self.model, "--tokens", self.tokens, "-q",
                 "-o", self.work / "text.jsonl")

    def rows(self, device: str) -> dict[str, float]:
        """What is measured on a device, by name."""
        on = ["--device", device, "-q"]
        text, small = self.work / "text.jsonl", self.work / f"small-{device}"
        found = {}
        for dtype in ("float32", "bfloat16"):
            speeds = json.loads(self.run("schmidt", "bench", self.model, "--json", "-p", 512,
                                         "-n", 64, "--dtype", dtype, *on))["results"]
            for result, name in zip(speeds, ("prefill of 512", "decode"), strict=True):
                found[f"{name}, {dtype}, tokens/s"] = result["tokens_per_second"]
        begun = time.monotonic()
        self.run("schmidt", "compress", self.model, "--keep", 0.8, "--calibration", text,
                 "--calibration-tokens", self.tokens // 2, "-o", small, *on)
        found["compress to 0.8, s"] = time.monotonic() - begun
        begun = time.monotonic()
        score = json.loads(self.run("schmidt", "eval", small, "--reference", self.model,
                                    "--text", text, "--max-tokens", self.tokens // 2, "--json",
                                    *on))
        found["eval with its reference, s"] = time.monotonic() - begun
        found["KL to the original, nats"] = score["texts"][0]["kl"]["mean"]
        healed = self.work / f"healed-{device}"
        self.run("schmidt", "heal", small, "--teacher", self.model, "--data", text, "--tokens",
                 self.tokens, "--batch", 2, "--held-out", 2, "-o", healed, *on)
        steps = [json.loads(line) for line in (healed / "heal.jsonl").read_text().splitlines()]
        found["heal, tokens/s"] = statistics.median(
            step["tokens_per_second"] for step in steps if "tokens_per_second" in step)
        times = json.loads(self.run("factorize_bench", f"--benchmark_filter=^on/{device}/",
                                    "--benchmark_format=json"))["benchmarks"]
        if not times:
            sys.exit(f"error: expected cpu or cuda, of a build and a machine that have it, got {device}")
        found["low rank 1024 of 4096 x 11008, s"] = times[0]["real_time"] / 1000
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("programs", type=Path)
    parser.add_argument("model")
    parser.add_argument("--devices", default="cpu,cuda")
    parser.add_argument("--tokens", type=int, default=8192, help="of the model's text")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    devices = options.devices.split(",")

    with tempfile.TemporaryDirectory(prefix="gpu-check-") as work:
        check = Check(options.programs, options.model, options.tokens, Path(work))
        check.sample()
        found = {device: check.rows(device) for device in devices}
    print(f"| | {' | '.join(devices)} | ratio |\n|---{'|---' * len(devices)}|---|")
    for name, first in found[devices[0]].items():
        values = [found[device][name] for device in devices]
        cells = " | ".join(f"{value:.4g}" for value in values)
        print(f"| {name} | {cells} | {values[-1] / first:.3g} |")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
