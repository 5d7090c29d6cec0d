"""Writes the truths that the C++ tests compare with: `make_oracles.py OUT [--slow]`.

Each module in python/oracles, or of those in python/oracles/slow, has `make(out: Path)`, which
fills OUT/<module>. A module runs again only when its source, or this file, has changed.
"""

import argparse
import hashlib
import importlib
import multiprocessing
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent


def make(module: str, target: Path) -> None:
    import torch

    torch.set_num_threads(1)  # modules run side by side
    sys.path.insert(0, str(HERE))
    importlib.import_module(module).make(target)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--slow", action="store_true")
    args = parser.parse_args()
    package = "oracles.slow" if args.slow else "oracles"
    driver = Path(__file__).read_bytes()
    context = multiprocessing.get_context("spawn")  # threads of torch do not outlive a fork
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), context) as pool:
        made = []
        for source in sorted((HERE / package.replace(".", "/")).glob("[a-z]*.py")):
            target = args.out / source.stem
            stamp = target / ".stamp"
            fingerprint = hashlib.sha256(driver + source.read_bytes()).hexdigest()
            if stamp.exists() and stamp.read_text() == fingerprint:
                continue
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            made.append((pool.submit(make, f"{package}.{source.stem}", target), stamp, fingerprint))
        for future, stamp, fingerprint in made:
            future.result()
            stamp.write_text(fingerprint)
            print(f"made {stamp.parent}")


if __name__ == "__main__":
    main()
