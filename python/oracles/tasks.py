"""Log-likelihoods of benchmark answers by transformers, worded as lm-evaluation-harness does.

smollm2.json: task -> limit, fewshot, the log-likelihood of each choice of the first
questions, one row at a time, and the share of questions answered rightly. Empty where
SmolLM2 or ../shared/data is absent.
"""

import csv
import json
from pathlib import Path

import torch

from oracles.model import SMOLLM2, load_smollm2
from oracles.text import smollm2 as smollm2_tokenizer

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "benchmarks"
QUESTIONS = 4


def mmlu_text(row: list[str]) -> str:
    answers = "".join(f"\n{letter}. {text}" for letter, text in zip("ABCD", row[1:5]))
    return f"{row[0].strip()}{answers}\nAnswer:"


def mmlu(fewshot: int, limit: int) -> list[tuple[str, list[str], int]]:
    asked = []
    for path in sorted((DATA / "mmlu" / "test").glob("*.csv")):
        subject = path.stem.removesuffix("_test")
        with open(DATA / "mmlu" / "dev" / f"{subject}_dev.csv", newline="") as file:
            shown = list(csv.reader(file))[:fewshot]
        head = "The following are multiple choice questions (with answers) about "
        head += subject.replace("_", " ") + ".\n\n"
        head += "".join(f"{mmlu_text(row)} {row[5]}\n\n" for row in shown)
        with open(path, newline="") as file:
            for row in list(csv.reader(file))[:limit]:
                asked.append((head + mmlu_text(row), list("ABCD"), "ABCD".index(row[5])))
    return asked


def lines(name: str) -> list[dict]:
    (path,) = (DATA / name).glob("*.jsonl")
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file][:QUESTIONS]


def hellaswag() -> list[tuple[str, list[str], int]]:
    return [(d["query"], d["choices"], d["gold"]) for d in lines("hellaswag")]


def boolq() -> list[tuple[str, list[str], int]]:
    return [(f"{d['passage']}\nQuestion: {d['question']}?\nAnswer:", ["no", "yes"],
             int(d["answer"] == "True")) for d in lines("boolq")]


@torch.inference_mode()
def log_likelihood(model, tokenizer, prompt: str, choice: str) -> float:
    spaces = len(prompt) - len(prompt.rstrip())
    before = tokenizer.encode(prompt[: len(prompt) - spaces], add_special_tokens=False).ids
    ids = tokenizer.encode(f"{prompt} {choice}", add_special_tokens=False).ids
    log_p = torch.log_softmax(model(torch.tensor(ids)[None]).logits[0].double(), -1)
    return sum(log_p[i - 1, ids[i]].item() for i in range(len(before), len(ids)))


def truth(model, tokenizer, asked, fewshot: int, limit: int, by_length: bool) -> dict:
    found, right = [], 0
    for prompt, choices, answer in asked[:QUESTIONS]:
        found.append([log_likelihood(model, tokenizer, prompt, c) for c in choices])
        value = [p / (len(c) if by_length else 1) for p, c in zip(found[-1], choices)]
        right += value.index(max(value)) == answer
    return {"limit": limit, "fewshot": fewshot, "log_likelihoods": found,
            "accuracy": right / len(found)}


def make(out: Path) -> None:
    truths = {}
    if DATA.exists() and SMOLLM2.exists():
        model, tokenizer = load_smollm2(), smollm2_tokenizer()
        truths["mmlu"] = truth(model, tokenizer, mmlu(1, 1), 1, 1, False)
        truths["hellaswag"] = truth(model, tokenizer, hellaswag(), 0, QUESTIONS, True)
        truths["boolq"] = truth(model, tokenizer, boolq(), 0, QUESTIONS, False)
    (out / "smollm2.json").write_text(json.dumps(truths))
