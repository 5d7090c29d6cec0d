"""The hub's parquet files of a benchmark as the files that `schmidt eval --tasks` reads.

    pip install pyarrow
    python python/parquet_to_jsonl.py benchmarks/hellaswag
    python python/parquet_to_jsonl.py mmlu/all -o benchmarks/mmlu

Each `<name>.parquet` of FOLDER becomes `<name>.jsonl` in OUT (by default FOLDER), a line for each
row. Rows of MMLU, which name a subject and a list of four choices, become `test/<subject>_test.csv`
and `dev/<subject>_dev.csv` instead, in the order of the files' names where several hold rows of
one subject. Files that exist are replaced.
"""

import argparse
import csv
import json
import sys
from pathlib import Path

BATCH = 1024  # rows in memory at once


def rows_of(path: Path):
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH):
            yield from batch.to_pylist()


def columns_of(path: Path) -> set[str]:
    import pyarrow.parquet

    return set(pyarrow.parquet.read_schema(path).names)


def write_mmlu(path: Path, out: Path, written: set[Path]) -> int:
    """Appends to the files that are in `written`, and replaces the others."""
    split = next((name for name in ("test", "dev") if path.name.startswith(name)), None)
    if split is None:  # the harness asks and shows nothing else
        return 0
    (out / split).mkdir(parents=True, exist_ok=True)
    subjects: dict[str, list] = {}
    for row in rows_of(path):
        subjects.setdefault(row["subject"], []).append(
            [row["question"], *row["choices"], "ABCD"[row["answer"]]])
    for subject, lines in subjects.items():
        if Path(subject).name != subject:
            raise ValueError(f"{path}: expected a subject, got {subject!r}")
        name = out / split / f"{subject}_{split}.csv"
        mode = "a" if name in written else "w"
        written.add(name)
        with open(name, mode, newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(lines)
    return sum(map(len, subjects.values()))


def write_lines(path: Path, out: Path) -> int:
    count = 0
    with open(out / f"{path.stem}.jsonl", "w", encoding="utf-8") as file:
        for row in rows_of(path):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()
    out = options.out or options.folder
    files = sorted(options.folder.glob("*.parquet"))
    if not files:
        print(f"error: expected .parquet files in {options.folder}, found none", file=sys.stderr)
        return 2
    try:
        import pyarrow
    except ImportError:
        print("error: expected the package pyarrow: pip install pyarrow", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    written: set[Path] = set()  # files of MMLU
    for path in files:
        try:
            mmlu = {"question", "subject", "choices", "answer"} <= columns_of(path)
            count = write_mmlu(path, out, written) if mmlu else write_lines(path, out)
        except (pyarrow.ArrowException, KeyError, IndexError, TypeError, ValueError) as problem:
            print(f"error: {path}: expected a parquet file of a benchmark: "
                  f"{str(problem).splitlines()[0]}", file=sys.stderr)
            return 3
        print(f"{path.name}: {count} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
