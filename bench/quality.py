"""Perplexity against parameters kept, for each way to find and to place them.

usage: quality.py PROGRAM MODEL --calibration F [F ..] --text F [F ..] -o DIR
                  [--keep 0.8,0.7,0.5] [--tokens 24576] [--max-tokens 12288] [--rows NAME,..]
                  [--layer NAME] [--figures FOLDER] [--known]

Every row below is compressed and evaluated at every keep; what DIR holds already is
not run again, so an interrupted run goes on. Prints a Markdown table and writes
DIR/quality.json. Nothing is healed. --layer adds the error of each method on that one
weight at several shares of its parameters, measured by `schmidt profile`; --figures draws
both, each beside a file of the values that it shows, with the dense model's. --known runs
nothing and works from what DIR holds.
"""

import argparse
import json
import shutil
import subprocess
from pathlib import Path

from line_chart import Figure, save

FISHER = ["--method", "fisher"]
SHARED = ["--share-inputs"]
UNIFORM = ["--allocation", "uniform"]
ALONE = [*UNIFORM, "--drift", "0"]

# From the paper's truncation to the default. Rows on shared inputs say so by SHARED.
ROWS = {
    "tt-svd": ("TT-SVD, 2 balanced sites, uniform", ["--method", "tt-svd", "--ignore", "none"]),
    "svd": ("plain SVD, uniform",
            ["--method", "tt-svd", "--shape", "low-rank", "--ignore", "none"]),
    "als": ("weighted MPO, 2 balanced sites, one sweep, uniform",
            ["--method", "als", "--sweeps", "1", *SHARED, *ALONE]),
    "whitened": ("weighted low rank, each alone, uniform", ["--method", "whitened", *ALONE]),
    "shared": ("weighted low rank, shared inputs, uniform",
               ["--method", "whitened", *SHARED, *ALONE]),
    "fisher": ("low rank in both moments, shared inputs, uniform", [*FISHER, *SHARED, *ALONE]),
    "sensitivity": ("the same, allocated by sensitivity", [*FISHER, *SHARED, "--drift", "0"]),
    "drift": ("both moments, allocated by sensitivity, shared inputs", [*FISHER, *SHARED]),
    "drift-1": ("the same, drift 1", [*FISHER, *SHARED, "--drift", "1"]),
    "uniform": ("drift 0.5, allocated uniformly", [*FISHER, *SHARED, *UNIFORM]),
    "full-gauge": ("the same, plain cores", [*FISHER, *SHARED, *UNIFORM, "--gauge", "full"]),
    "first": ("drift 0.5, calibrated on the first text only", [*FISHER, *SHARED]),
    "second": ("drift 0.5, calibrated on the second text only", [*FISHER, *SHARED]),
    "alone": ("the same, each matrix alone: the default", FISHER),
    "auto": ("--method auto", ["--method", "auto"]),
}
DRAWN = ("svd", "als", "shared", "drift", "alone", "auto")
CURVES = {"plain SVD": ["tt-svd", "low-rank"], "weighted low rank": ["whitened", "low-rank"],
          "TT-SVD, 2 balanced sites": ["tt-svd", "balanced"],
          "weighted MPO, 2 balanced sites": ["als", "balanced"],
          "weighted MPO by Gauss-Newton": ["gauss-newton", "balanced"],
          "weighted low rank plus MPO": ["sum", "balanced"],
          "low rank in both moments": ["fisher", "low-rank"],
          "--method auto": ["auto", "balanced"]}
SHARES = "0.1,0.2,0.3,0.4,0.5,0.6,0.75,0.9"


def call(*args: str) -> dict:
    done = subprocess.run(args, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def calibration_of(options: argparse.Namespace, row: str) -> list[str]:
    files = {"first": options.calibration[:1], "second": options.calibration[1:2]}
    return ["--calibration", ",".join(files.get(row, options.calibration)),
            "--calibration-tokens", str(options.tokens)]


def statistics_of(options: argparse.Namespace, row: str) -> list[str]:
    if row in ("first", "second", "auto"):  # other texts, other moments
        own = row
    else:
        own = "shared" if "--share-inputs" in ROWS[row][1] else "alone"
    return ["--statistics", str(options.out / f"statistics-{own}")]


def measure(options: argparse.Namespace, row: str, keep: str) -> dict | None:
    folder = options.out / f"{row}-{keep}"
    result_file = folder / "result.json"
    if result_file.exists():
        return json.loads(result_file.read_text())
    if options.known:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    arguments = ROWS[row][1]
    if "tt-svd" not in arguments:
        arguments = arguments + calibration_of(options, row)
    if "fisher" in arguments or "auto" in arguments:
        arguments = arguments + statistics_of(options, row)
    model = folder / "model"
    sizes = call(options.program, "compress", options.model, "--keep", keep, "--json", "-o",
                 str(model), *arguments, "--force")
    result = {"keep": sizes["keep"], "texts": perplexities(options, str(model))}
    shutil.rmtree(model)
    result_file.write_text(json.dumps(result, indent=1))
    return result


def perplexities(options: argparse.Namespace, model: str) -> list[dict]:
    texts = [part for text in options.text for part in ("--text", text)]
    scores = call(options.program, "eval", model, *texts, "--max-tokens",
                  str(options.max_tokens), "--json")
    return [{"text": Path(t["text"]).name, "perplexity": t["perplexity"]}
            for t in scores["texts"]]


def dense_perplexity(options: argparse.Namespace) -> float | None:
    """On the first text; None where it was not measured and nothing is to be run."""
    held = options.out / "dense.json"
    if not held.exists():
        if options.known:
            return None
        held.write_text(json.dumps(perplexities(options, options.model), indent=1))
    return json.loads(held.read_text())[0]["perplexity"]


def curve(options: argparse.Namespace, name: str) -> list[dict] | None:
    """Points of one layer alone: share kept, error on its inputs, KL of the model."""
    method, shape = CURVES[name]
    out = options.out / f"{options.layer}-{method}-{shape}.json"
    if not out.exists():
        if options.known:
            return None
        call(options.program, "profile", options.model, "--text", ",".join(options.calibration),
             "--max-tokens", "2048", "--layers", options.layer, "--keep", SHARES, "--method",
             method, "--shape", shape, "--json", "-o", str(out))
    profile = json.loads(out.read_text())
    return profile["layers"][0]["points"]


def draw(options: argparse.Namespace, table: list[dict]) -> None:
    options.figures.mkdir(parents=True, exist_ok=True)
    kept: dict[str, list] = {ROWS[row][0]: [] for row in DRAWN}
    for entry in table:
        if entry["row"] in kept:
            kept[entry["row"]].append((float(entry["asked"]), entry["texts"][0]["perplexity"]))
    lines = {name: sorted(points) for name, points in kept.items() if points}
    if lines:
        save(Figure(f"Perplexity of {table[0]['texts'][0]['text']}, nothing healed",
                    "share of the model's parameters kept", "perplexity", lines, log_y=True,
                    dense=dense_perplexity(options)), options.figures / "perplexity.svg")
    if not options.layer:
        return
    curves = {name: points for name in CURVES if (points := curve(options, name))}
    shares = [float(s) for s in SHARES.split(",")]
    for file, field, label in (
            ("weight_error.svg", "weighted_error", "relative error on the layer's inputs"),
            ("weight_kl.svg", "value", "KL divergence, nats a token")):
        lines = {name: [(s, p[field]) for s, p in zip(shares, points)]
                 for name, points in curves.items()}
        save(Figure(f"{options.layer} alone", "share of its parameters kept", label, lines,
                    log_y=True, dense=0.0), options.figures / file)


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
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--layer")
    parser.add_argument("--figures", type=Path)
    parser.add_argument("--known", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    table = []
    for keep in options.keep.split(","):
        for row in options.rows.split(","):
            result = measure(options, row, keep)
            if result is None:
                continue
            table.append({"row": ROWS[row][0], "asked": keep, **result})
            cells = " | ".join(f"{t['perplexity']:.1f}" for t in result["texts"])
            print(f"| {ROWS[row][0]} | {result['keep']:.4f} | {cells} |", flush=True)
    (options.out / "quality.json").write_text(json.dumps(table, indent=1))
    if options.layer and not options.known:
        for name in CURVES:
            curve(options, name)
    if options.figures:
        draw(options, table)


if __name__ == "__main__":
    main()
