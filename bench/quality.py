"""Perplexity against parameters kept, for each way to find and to place them.

usage: quality.py PROGRAM MODEL --calibration F [F ..] --text F [F ..] -o DIR
                  [--keep 0.8,0.7,0.5] [--tokens 24576] [--max-tokens 12288] [--rows NAME,..]

Every row below is compressed and evaluated at every keep; what DIR holds already is
not run again, so an interrupted run goes on. Prints a Markdown table and writes
DIR/quality.json. Nothing is healed.
"""

import argparse
import json
import shutil
import subprocess
from pathlib import Path

# From the paper's truncation to the default, one change a row.
ROWS = {
    "tt-svd, 2 balanced sites, uniform": ["--method", "tt-svd", "--allocation", "uniform",
                                          "--ignore", "none"],
    "svd (low rank), uniform": ["--method", "tt-svd", "--shape", "low-rank",
                                "--allocation", "uniform", "--ignore", "none"],
    "als, 2 balanced sites, uniform": ["--method", "als", "--allocation", "uniform"],
    "whitened svd, uniform": ["--method", "whitened", "--allocation", "uniform", "--no-sharing",
                              "--drift", "0"],
    "+ shared inputs": ["--method", "whitened", "--allocation", "uniform", "--drift", "0"],
    "fisher, uniform": ["--method", "fisher", "--allocation", "uniform", "--drift", "0"],
    "+ allocation by sensitivity": ["--method", "fisher", "--drift", "0"],
    "+ drift 0.5 (the default)": ["--method", "fisher"],
}


def call(*args: str) -> dict:
    done = subprocess.run(args, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def measure(options: argparse.Namespace, row: str, keep: str, folder: Path) -> dict:
    result_file = folder / "result.json"
    if result_file.exists():
        return json.loads(result_file.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model"
    arguments = [options.program, "compress", options.model, "--keep", keep, "--json", "-o",
                 str(model), *ROWS[row]]
    if "tt-svd" not in ROWS[row]:
        arguments += ["--calibration", ",".join(options.calibration),
                      "--calibration-tokens", str(options.tokens)]
    if "fisher" in ROWS[row]:
        arguments += ["--statistics", str(options.out / "statistics")]
    sizes = call(*arguments, "--force")
    texts = [part for text in options.text for part in ("--text", text)]
    scores = call(options.program, "eval", str(model), *texts, "--reference", options.model,
                  "--max-tokens", str(options.max_tokens), "--json")
    shutil.rmtree(model)
    result = {"keep": sizes["keep"],
              "texts": [{"text": Path(t["text"]).name, "perplexity": t["perplexity"],
                         "dense": t["reference"]["perplexity"], "kl": t["kl"]["mean"]}
                        for t in scores["texts"]]}
    result_file.write_text(json.dumps(result, indent=1))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--calibration", nargs="+", required=True)
    parser.add_argument("--text", nargs="+", required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--keep", default="0.8,0.7,0.5")
    parser.add_argument("--tokens", type=int, default=24576)
    parser.add_argument("--max-tokens", type=int, default=12288)
    parser.add_argument("--rows", default=None, help="numbers of rows, from 0")
    options = parser.parse_args()

    rows = list(ROWS)
    if options.rows:
        rows = [rows[int(i)] for i in options.rows.split(",")]
    table = []
    for keep in options.keep.split(","):
        for row in rows:
            folder = options.out / f"{list(ROWS).index(row)}-{keep}"
            result = measure(options, row, keep, folder)
            table.append({"row": row, **result})
            cells = " | ".join(f"{t['perplexity']:.1f} | {t['kl']:.3f}" for t in result["texts"])
            print(f"| {row} | {result['keep']:.4f} | {cells} |", flush=True)
    (options.out / "quality.json").write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
