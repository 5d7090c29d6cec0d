"""`schmidt eval --tasks` beside lm-evaluation-harness: the same answers, and how fast.

    python -m venv harness && harness/bin/pip install "lm-eval[hf]==0.4.13"
    harness/bin/python python/compare_harness.py MODEL --data ../shared/data/benchmarks

MODEL is a Hugging Face folder, which both read in float32; of a compressed one transformers
multiplies every layer out at every token, so that --dense, what `schmidt export --to dense --dtype
float32` makes of it, is read there in its place. The harness's own definitions of the tasks run; only the data sets that it would download are replaced by the files of --data.
For each task: the share of questions (in the limit) with the same choice or the same extracted
answer, both scores, and how long it took, of the harness after its model is loaded, of schmidt for
the whole program: in seconds of the clock, which want a machine without other work, and of the
processors, which it does not change. Ratios are the harness's over schmidt's, of each.
"""

import argparse
import csv
import json
import os
import resource
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SPLITS = {"validation": ("val", "dev"), "train": ("train",), "test": ("test",)}
FOLDERS = {
    "Rowan/hellaswag": "hellaswag", "aps/super_glue": "boolq", "mandarjoshi/trivia_qa": "triviaqa",
    "openai/gsm8k": "gsm8k", "baber/piqa": "piqa", "allenai/winogrande": "winogrande",
    "allenai/openbookqa": "openbookqa", "EleutherAI/lambada_openai": "lambada_openai",
    "cimec/lambada": "lambada_standard",
}


@dataclass
class Seconds:
    clock: float
    processors: float

    def __sub__(self, other: "Seconds") -> "Seconds":
        return Seconds(self.clock - other.clock, self.processors - other.processors)


def readings(who: int) -> Seconds:
    used = resource.getrusage(who)
    return Seconds(time.perf_counter(), used.ru_utime + used.ru_stime)


def lines(path: Path) -> list[dict]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def before_cleaning(text: str) -> str:
    """What the harness's cleaning of HellaSwag turns into `text`, which it has cleaned before:
    it strips, removes what is in brackets and makes two spaces one, in this order."""
    text = text.replace("  ", "   ")
    return f"{'[]' if text[:1] == ' ' else ''}{text}{'[]' if text[-1:] == ' ' else ''}"


def hub_form(folder: str, line: dict) -> dict:
    """A line with the field names that the hub's data set has."""
    if folder == "hellaswag" and "query" in line:
        label, text = line["query"].split(": ", 1)
        return {"activity_label": label, "ctx_a": before_cleaning(text), "ctx_b": "",
                "endings": [before_cleaning(choice) for choice in line["choices"]],
                "label": str(line["gold"])}
    if folder == "boolq" and "label" not in line:
        return {"question": line["question"], "passage": line["passage"],
                "label": int(str(line["answer"]).lower() == "true")}
    if folder == "triviaqa" and "context" in line:
        question = line["context"].removeprefix("Question: ").removesuffix("\nAnswer:")
        return {"question": question, "answer": {"aliases": line["aliases"]}}
    return line


def local_data(data: Path, source: str, name: str | None):
    import datasets

    def of(splits: dict):
        return datasets.DatasetDict({k: datasets.Dataset.from_list(v) for k, v in splits.items()})

    if source == "cais/mmlu":
        splits = {}
        for split in ("dev", "test"):
            with open(data / "mmlu" / split / f"{name}_{split}.csv", newline="") as file:
                splits[split] = [{"question": row[0], "choices": row[1:5],
                                  "answer": "ABCD".index(row[5])} for row in csv.reader(file)]
        return of(splits)
    folder = {"ARC-Easy": "arc_easy", "ARC-Challenge": "arc_challenge"}.get(name or "") \
        or FOLDERS[source]
    splits, unnamed = {}, []
    for path in sorted((data / folder).glob("*.jsonl")):
        found = [s for s, begins in SPLITS.items() if path.name.startswith(begins)]
        documents = [hub_form(folder, line) for line in lines(path)]
        if found:
            splits.setdefault(found[0], []).extend(documents)
        else:
            unnamed += documents
    for split in SPLITS:  # the harness looks at worked examples even where it shows none
        splits.setdefault(split, unnamed or next(iter(splits.values())))
    return of(splits)


def harness_answers(lm, task: str, limit: int, shots: int | None,
                    data: Path) -> tuple[dict, dict, Seconds]:
    """Answers by (set, filter, question), scores by key, and the time it took."""
    import datasets
    import lm_eval

    datasets.load_dataset = lambda path, name=None, **_: local_data(data, path, name)
    start = readings(resource.RUSAGE_SELF)
    results = lm_eval.simple_evaluate(lm, tasks=[task], limit=limit, num_fewshot=shots,
                                      log_samples=True)
    seconds = readings(resource.RUSAGE_SELF) - start
    answers = {}
    for name, samples in results["samples"].items():
        for sample in samples:
            key = (name, sample["filter"], sample["doc_id"])
            response = sample["filtered_resps"]
            if isinstance(response[0], str):
                answers[key] = response[0]
            elif len(response) == 1:  # of LAMBADA: is it the likeliest
                answers[key] = response[0][1]
            else:
                likely = [float(value[0]) for value in response]
                answers[key] = likely.index(max(likely))
    return answers, results["results"][task], seconds


def schmidt_answers(options, task: str, limit: int,
                    shots: int | None) -> tuple[dict, dict, Seconds]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [options.schmidt, "eval", options.model, "--tasks", task, "--data", options.data,
                   "--limit", limit, "-o", out, "-q", "--threads", options.threads]
        if shots is not None:
            command += ["--fewshot", shots]
        environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
        start = readings(resource.RUSAGE_CHILDREN)
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL,
                       env=environment)
        seconds = readings(resource.RUSAGE_CHILDREN) - start
        result = json.loads(out.read_text())
    answers = {}
    for name, samples in result["samples"].items():
        for sample in samples:
            if "extracted" in sample:
                for filter_, text in sample["extracted"].items():
                    answers[name, filter_, sample["doc_id"]] = text
            elif len(sample["log_likelihoods"]) == 1:
                answers[name, "none", sample["doc_id"]] = sample["acc,none"] == 1
            else:
                answers[name, "none", sample["doc_id"]] = sample["choice"]
    return answers, result["results"][task], seconds


def shown(scores: dict, key: str) -> str:
    """A score with its standard error, which one question of each subject has none of."""
    error = scores[key.replace(",", "_stderr,")]
    return f"{scores[key]:.4f}" + (f" +- {error:.4f}" if isinstance(error, float) else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", default="hellaswag:200,boolq:200,mmlu:4,triviaqa:50,gsm8k:20",
                        help="name:limit or name:limit:shots, ..; the limit of each mmlu subject")
    parser.add_argument("--schmidt", type=Path, default=ROOT / "build/release/bin/schmidt")
    parser.add_argument("--dense", type=Path, help="what the harness reads in place of MODEL")
    parser.add_argument("--batch", type=int, default=1, help="the harness's batch size")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    import torch
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(options.threads)
    lm = HFLM(pretrained=str(options.dense or options.model), dtype="float32", device="cpu",
              batch_size=options.batch)
    print("| task | questions | same answer | score | harness | schmidt | harness s | schmidt s "
          "| ratio | ratio of processor time |\n|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for part in options.tasks.split(","):
        task, limit, *rest = part.split(":")
        shots = int(rest[0]) if rest else None
        ours, our_scores, our_seconds = schmidt_answers(options, task, int(limit), shots)
        theirs, their_scores, their_seconds = harness_answers(
            lm, task, int(limit), shots, options.data)
        if ours.keys() != theirs.keys():
            raise SystemExit(f"{task}: {len(ours)} and {len(theirs)} answers, of other questions")
        same = sum(ours[key] == theirs[key] for key in theirs)
        keys = [key for key in their_scores if "," in key and "stderr" not in key]
        for number, key in enumerate(keys):
            first = number == 0
            counts = f"{len(theirs)} | {100 * same / len(theirs):.1f} %" if first else " | "
            times = (f"{their_seconds.clock:.1f} | {our_seconds.clock:.1f} "
                     f"| {their_seconds.clock / our_seconds.clock:.2f} "
                     f"| {their_seconds.processors / our_seconds.processors:.2f}"
                     ) if first else " | | | "
            print(f"| {task if first else ''} | {counts} | {key} | {shown(their_scores, key)} "
                  f"| {shown(our_scores, key)} | {times} |", flush=True)
        for key in theirs:
            if ours[key] != theirs[key]:
                print(f"  differs: {key}: {theirs[key]!r}, schmidt {ours[key]!r}", flush=True)


if __name__ == "__main__":
    main()
