"""Perplexity of SmolLM2 by transformers, over the windows that schmidt scores.

smollm2.json: text -> mean negative log likelihood of each window of 512 tokens, for the first
windows of the two texts of ../shared/data. A text that is absent is left out.
"""

import json
from pathlib import Path

import torch

from oracles.model import SMOLLM2, load_smollm2
from oracles.text import smollm2 as smollm2_tokenizer

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "text"
TEXTS = ("wiki.test.raw", "chatml.valid.txt")
CONTEXT = 512


@torch.inference_mode()
def window_nlls(model, ids: list[int], windows: int) -> list[float]:
    nlls = []
    for start in range(0, CONTEXT * windows, CONTEXT):
        window = torch.tensor(ids[start : start + CONTEXT])[None]
        nlls.append(model(window, labels=window).loss.item())
    return nlls


def write_truths(out: Path, windows: int) -> None:
    truths = {}
    present = [name for name in TEXTS if (DATA / name).exists() and SMOLLM2.exists()]
    if present:
        model, tokenizer = load_smollm2(), smollm2_tokenizer()
        for name in present:
            ids = tokenizer.encode((DATA / name).read_text("utf-8"), add_special_tokens=False).ids
            truths[name] = window_nlls(model, ids, windows)
    (out / "smollm2.json").write_text(json.dumps(truths))


def make(out: Path) -> None:
    write_truths(out, windows=2)
