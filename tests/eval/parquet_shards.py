"""python/parquet_to_jsonl.py keeps the rows of every file, however the hub split them.

Parquet itself stands aside: files of JSON lines, and a module that reads them in its place.
"""

import csv
import json
import sys
import tempfile
import types
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "python"))
import parquet_to_jsonl  # noqa: E402


class ParquetFile:
    def __init__(self, path: Path):
        self.rows = [json.loads(line) for line in path.read_text().splitlines()]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def iter_batches(self, size: int):
        for begin in range(0, len(self.rows), size):
            rows = self.rows[begin:begin + size]
            yield types.SimpleNamespace(to_pylist=lambda rows=rows: rows)


def put_in_place_of_pyarrow() -> None:
    package, parquet = types.ModuleType("pyarrow"), types.ModuleType("pyarrow.parquet")
    package.ArrowException = ValueError
    package.parquet = parquet
    parquet.ParquetFile = ParquetFile
    parquet.read_schema = lambda path: types.SimpleNamespace(names=list(ParquetFile(path).rows[0]))
    sys.modules |= {"pyarrow": package, "pyarrow.parquet": parquet}


def converted(folder: Path) -> None:
    sys.argv = ["parquet_to_jsonl.py", str(folder), "-o", str(folder / "out")]
    assert parquet_to_jsonl.main() == 0


def write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def shards_of_a_subject_follow_each_other(folder: Path) -> None:
    def row(i: int, subject: str) -> dict:
        return {"question": f"Question {i}?", "subject": subject,
                "choices": ["w", "x, y", "z", "none"], "answer": i % 4}

    # A subject in both shards, and one in each alone.
    shards = [[row(0, "logic"), row(1, "law"), row(2, "logic")], [row(3, "logic"), row(4, "art")]]
    for i, rows in enumerate(shards):
        write(folder / f"test-0000{i}-of-00002.parquet", rows)
    write(folder / "dev-00000-of-00001.parquet", [row(5, "logic")])
    for _ in range(2):  # the second time replaces what the first wrote
        converted(folder)
        found = {}
        for path in (folder / "out").glob("*/*.csv"):
            with open(path, newline="") as file:
                found[path.stem] = [(line[0], line[2], line[5]) for line in csv.reader(file)]
        assert found == {
            "logic_test": [("Question 0?", "x, y", "A"), ("Question 2?", "x, y", "C"),
                           ("Question 3?", "x, y", "D")],
            "law_test": [("Question 1?", "x, y", "B")],
            "art_test": [("Question 4?", "x, y", "A")],
            "logic_dev": [("Question 5?", "x, y", "B")],
        }, found


def other_rows_become_a_file_for_each(folder: Path) -> None:
    rows = [{"question": f"{i}", "answer": True} for i in range(3000)]
    write(folder / "validation-00000-of-00002.parquet", rows[:2000])
    write(folder / "validation-00001-of-00002.parquet", rows[2000:])
    converted(folder)
    found = [json.loads(line) for path in sorted((folder / "out").glob("*.jsonl"))
             for line in path.read_text().splitlines()]
    assert found == rows


def main() -> int:
    put_in_place_of_pyarrow()
    for test in (shards_of_a_subject_follow_each_other, other_rows_become_a_file_for_each):
        with tempfile.TemporaryDirectory() as folder:
            test(Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
