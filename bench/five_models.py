"""The five models of the paper's tables: bytes, perplexity, KL divergence, peak memory.

usage: five_models.py PROGRAM MODEL --text F [F ..] -o DIR [--calibration F [F ..]]
                      [--keep 0.5] [--ignore L7] [--tokens 24576] [--max-tokens 12288]
                      [--method fisher] [--steps 100] [--rows NAME,..] [--threads N]

Makes the original in float32, int8 and int4 of it, its tensorized model in 16 bits and that with
the rest in int4, the paper's mixed model; --rows may name one more, all of the tensorized model in
int4. Each is evaluated on every text beside the original. The paper keeps 0.307 of the parameters
with L7, embedding and head as they are (`schmidt plan --preset compactifai-88`); where embedding
and head are a larger part of the model, --keep is a share that can be reached. Without --calibration
the model writes its own text.

Peak memory is that of `generate` for 32 tokens, 16-bit models in bfloat16. What the program and the
model's tokenizer take of it is measured by `tokenize`; the rest, weights with keys and values and
activations, stands as a multiple of the weights' file. What DIR holds already is not run again, so
an interrupted run goes on. Prints a Markdown table and writes DIR/five_models.md and
DIR/five_models.json. Nothing is healed.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

PROMPT = "The capital of France is"
ROWS = {
    "original": "original, float32",
    "int8": "int8",
    "int4": "int4",
    "tensorized": "tensorized, 16 bits",
    "mixed": "tensorized, the rest int4",
    "tensorized-int4": "tensorized, all int4",
}
PAPER = "original,int8,int4,tensorized,mixed"
HALF = ("tensorized", "mixed")  # numbers of 16 bits are computed with as they are


def call(options: argparse.Namespace, *args: str) -> dict:
    """Runs the program and reads the JSON that it prints."""
    command = [options.program, *args, "--json"]
    if options.threads:
        command += ["--threads", str(options.threads)]
    print("$ " + " ".join(command), file=sys.stderr)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def peak_memory(command: list[str]) -> int:
    """The most bytes that a run of the program has had in memory."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_maxrss * 1024


def calibration(options: argparse.Namespace) -> list[str]:
    files = ["--calibration", ",".join(options.calibration)] if options.calibration else []
    return [*files, "--calibration-tokens", str(options.tokens)]


def learned(options: argparse.Namespace) -> list[str]:
    return ["--method", "learned", "--steps", str(options.steps), *calibration(options)]


def make(options: argparse.Namespace, row: str, model: Path) -> None:
    """The model of a row, as a folder."""
    plan = model.parent / "plan.json"
    tensorized = options.out / "tensorized" / "model"
    if row == "original":
        call(options, "plan", options.model, "--preset", "original", "--tflops", "1", "--force",
             "-o", str(plan))
        verb = ["compress", options.model, "--plan", str(plan)]
    elif row == "int8":
        verb = ["quantize", options.model, "--bits", "8"]
    elif row == "int4":
        verb = ["quantize", options.model, "--bits", "4", *learned(options)]
    elif row == "tensorized":
        method = ["--method", options.method]
        if options.method != "tt-svd":
            method += calibration(options)
        verb = ["compress", options.model, "--keep", options.keep, "--ignore", options.ignore,
                "--dtype", "bfloat16", *method]
    elif row == "mixed":
        verb = ["quantize", str(tensorized), "--bits", "4", "--layers", "dense",
                "--embedding-bits", "16", *learned(options)]
    else:
        verb = ["quantize", str(tensorized), "--bits", "4", "--layers", "all", *learned(options)]
    call(options, *verb, "-o", str(model))


def measure(options: argparse.Namespace, row: str) -> dict:
    folder = options.out / row
    result_file = folder / "result.json"
    if result_file.exists():
        return json.loads(result_file.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model"
    if not model.exists():
        make(options, row, model)
    sizes = call(options, "inspect", str(model))
    scores = call(options, "eval", str(model), "--reference", options.model, "--max-tokens",
                  str(options.max_tokens), *(part for t in options.text for part in ("--text", t)))
    generate = [options.program, "generate", str(model), "--prompt", PROMPT, "-n", "32",
                "--temperature", "0"]
    if row in HALF:
        generate += ["--dtype", "bfloat16"]
    if options.threads:
        generate += ["--threads", str(options.threads)]
    prompt = folder / "prompt.txt"
    prompt.write_text(PROMPT)
    files = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    result = {
        "parameters": sizes["parameters"], "dense_parameters": sizes["dense_parameters"],
        "bytes": files, "peak_memory": peak_memory(generate),
        "memory_without_weights": peak_memory(
            [options.program, "tokenize", str(model), "--text", str(prompt)]),
        "texts": [{"text": Path(t["text"]).name, "perplexity": t["perplexity"],
                   "kl": t["kl"]["mean"]} for t in scores["texts"]],
    }
    result_file.write_text(json.dumps(result, indent=1))
    return result


def table(results: dict[str, dict]) -> str:
    texts = [t["text"] for t in next(iter(results.values()))["texts"]]
    heads = ["model", "parameters", "MB", "bits a parameter",
             *(f"perplexity, {text}" for text in texts), *(f"KL, {text}" for text in texts),
             "peak memory, MB", "without the weights, MB", "the rest over the file"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row, r in results.items():
        cells = [ROWS[row], f"{r['parameters']:,}", f"{r['bytes'] / 1e6:.1f}",
                 f"{8 * r['bytes'] / r['dense_parameters']:.2f}",
                 *(f"{t['perplexity']:.4g}" for t in r["texts"]),
                 *(f"{t['kl']:.3g}" for t in r["texts"]), f"{r['peak_memory'] / 1e6:.0f}",
                 f"{r['memory_without_weights'] / 1e6:.0f}",
                 f"{(r['peak_memory'] - r['memory_without_weights']) / r['bytes']:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("\nBits count all bytes of the weights over the original's parameters. Without the weights "
                 "there are the program and the tokenizer.")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--text", nargs="+", required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--calibration", nargs="+", default=[])
    parser.add_argument("--keep", default="0.5")
    parser.add_argument("--ignore", default="L7")
    parser.add_argument("--tokens", type=int, default=24576)
    parser.add_argument("--max-tokens", type=int, default=12288)
    parser.add_argument("--method", default="fisher")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rows", default=PAPER)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()

    rows = options.rows.split(",")
    unknown = [row for row in rows if row not in ROWS]
    if unknown:
        parser.error(f"expected rows among {', '.join(ROWS)}, got {', '.join(unknown)}")
    if {"mixed", "tensorized-int4"} & set(rows) and "tensorized" not in rows:
        parser.error("expected the row tensorized beside those that are made of it")
    options.out.mkdir(parents=True, exist_ok=True)
    results = {row: measure(options, row) for row in ROWS if row in rows}
    text = table(results)
    print(text)
    (options.out / "five_models.md").write_text(text)
    (options.out / "five_models.json").write_text(json.dumps(
        {"model": options.model, "keep": float(options.keep), "models": results}, indent=1))


if __name__ == "__main__":
    main()
