"""The paper's models on SmolLM2, from one recipe, with a table and a report.

usage: paper.py PROGRAM [--form demo|short|long] [--calibration F,F] [--text F,F]
                        [--benchmarks DIR [--tasks NAME,NAME]] [-o DIR]

Follows examples/recipes/paper.yaml into DIR (the form's name): what is done there is not done
again. The forms differ in how much text is read and how long is healed; `long` is meant for a
night. Without files the model writes its own text, one half to calibrate on and one to evaluate
with.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

MODEL = "models/smollm2.gguf"
RECIPE = "examples/recipes/paper.yaml"
TASKS = "hellaswag,boolq,mmlu,triviaqa,gsm8k"
FORMS = {
    "demo": {"own-tokens": "12k", "calibration-tokens": 6144, "test-tokens": 2048, "steps": 6,
             "heal-tokens": 10240, "heal-context": 256, "heal-rate": 5e-5,
             "few-bits-heal-rate": 1e-4, "bonds": "20,90", "blocks": "0", "rounds": 1,
             "size": "76MB"},
    "short": {"own-tokens": "24k", "calibration-tokens": 12288, "test-tokens": 4096, "steps": 12,
              "heal-tokens": 20480, "heal-context": 256, "heal-rate": 5e-5,
              "few-bits-heal-rate": 1e-4, "bonds": "10,40,90", "blocks": "0,15", "rounds": 2,
              "limit": 10, "size": "76MB"},
    "long": {"own-tokens": "200k", "calibration-tokens": 49152, "test-tokens": 12288, "steps": 100,
             "heal-tokens": "1M", "bonds": "10,20,30,40,50,60,70,80,90", "blocks": "0,5,15,29",
             "rounds": 5, "limit": 200, "size": "60MB"},
}


def variables(args: argparse.Namespace) -> dict[str, object]:
    values = {"model": MODEL, **FORMS[args.form]}
    if args.calibration:
        values |= {"calibration": args.calibration, "draw-calibration": "false"}
    if args.text:
        values |= {"text": args.text, "draw-test": "false"}
    if args.benchmarks:
        values |= {"benchmarks": args.benchmarks, "tasks": args.tasks}
    return values


def rows(out: Path) -> list[tuple[str, ...]]:
    """The models of a run as they were made: size, bits, loss on the first text."""
    stages = json.loads((out / "run.json").read_text())["stages"]
    original = json.loads((out / "original-eval.json").read_text())["texts"][0]
    parameters = stages["int8"]["result"]["dense_parameters"]
    table = [("", "MB", "bits", f"perplexity ({Path(original['text']).name})", "KL", "same token")]
    table.append(("original, float32", f"{parameters * 4 / 1e6:.1f}", "32",
                  f"{original['perplexity']:.2f}", "0", "100 %"))
    for name, stage in sorted(stages.items(), key=lambda item: item[1]["ended"]):
        score = out / f"{name}-eval.json"
        if stage["verb"] not in ("compress", "quantize", "heal") or not score.exists():
            continue
        size = stage["result"]["bytes"]
        text = json.loads(score.read_text())["texts"][0]
        table.append((name, f"{size / 1e6:.1f}", f"{8 * size / parameters:.2f}",
                      f"{text['perplexity']:.2f}", f"{text['kl']['mean']:.3f}",
                      f"{100 * text['top1_agreement']:.1f} %"))
    return table


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--form", choices=FORMS, default="short")
    parser.add_argument("--calibration")
    parser.add_argument("--text")
    parser.add_argument("--benchmarks")
    parser.add_argument("--tasks", default=TASKS)
    parser.add_argument("-o", "--out", type=Path)
    args = parser.parse_args()
    out = args.out or Path("demo" if args.form == "demo" else "paper")

    command = [args.program, "run", RECIPE, "-o", str(out)]
    for name, value in variables(args).items():
        command += ["--set", f"{name}={value}"]
    print("$ " + " ".join(command), file=sys.stderr)
    if (code := subprocess.run(command, stdout=subprocess.DEVNULL).returncode) != 0:
        sys.exit(code)

    table = rows(out)
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        cells = [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:])]
        print("  ".join([f"{row[0]:<{widths[0]}}", *cells]))
    for name in ("original", "few-bits-healed"):
        said = json.loads((out / f"{name}-text.json").read_text())["continuations"][0]
        print(f"\n{name}: {said['prompt']}{said['text']}")
    print(f"\nreport: {out / 'report.html'}\ntalk with it: {args.program} chat {out / 'few-bits-healed'}")


if __name__ == "__main__":
    main()
