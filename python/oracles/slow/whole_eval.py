"""The same as oracles.eval over the 12,288 tokens that published figures are from."""

from pathlib import Path

from oracles.eval import write_truths


def make(out: Path) -> None:
    write_truths(out, windows=24)
