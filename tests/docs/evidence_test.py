"""Numbers of the documents against the measurements that they come from.

usage: evidence_test.py SOURCE_DIR

A table in README.md or docs/*.md below a line `<!-- evidence: FILE FILE -->` shows numbers of these
files of docs/results: each that is written with a decimal point has to be one of theirs, as it is,
as a percentage, or in millions (MB), rounded to the digits that are shown. Tables with such numbers
that were not measured (options, defaults) stand below `<!-- evidence: none -->`. Every file says
what it is, where it was measured and by which commands, and stands behind some table.
"""

import json
import re
import sys
from pathlib import Path

EVIDENCE = re.compile(r"^<!-- evidence: (\S+(?: \S+)*) -->$")
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*\.\d+(?:e-?\d+)?")
SCALES = (1.0, 100.0, 1e-6)
ABOUT = ("title", "made_by", "commands")


def numbers_in(value: object) -> list[float]:
    """All numbers of a JSON value, those of its texts with a decimal point among them."""
    if isinstance(value, bool):
        return []
    if isinstance(value, str):
        return [float(number.replace(",", "")) for number in NUMBER.findall(value)]
    if isinstance(value, (int, float)):
        return [float(value)]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in numbers_in(item)]
    return []


def numbers_measured(path: Path) -> list[float]:
    """Those of a file, but for what it says of itself."""
    record = json.loads(path.read_text())
    return numbers_in([value for key, value in record.items() if key not in ABOUT])


def is_shown(text: str, known: list[float]) -> bool:
    """Whether a number in a table is a rounding of one that is known."""
    mantissa, _, exponent = text.replace(",", "").partition("e")
    digits = len(mantissa.partition(".")[2])
    half_step = 0.5 * 10.0 ** (int(exponent or 0) - digits)
    shown = float(f"{mantissa}e{exponent or 0}")
    return any(abs(number * scale - shown) <= half_step * (1 + 1e-9)
               for number in known for scale in SCALES)


def tables(document: Path) -> list[tuple[int, str | None, list[str]]]:
    """First line, evidence and rows of each table below its heads; a table without evidence has
    None."""
    found = []
    evidence, rows, first = None, [], 0
    for number, line in enumerate([*document.read_text().splitlines(), ""], 1):
        if line.startswith("|"):
            first = first or number
            rows.append(line)
            continue
        if rows:
            found.append((first, evidence, rows[2:]))
            evidence, rows, first = None, [], 0
        if match := EVIDENCE.match(line):
            evidence = match[1]
        elif line.strip():
            evidence = None
    return found


def check_file(path: Path) -> list[str]:
    record = json.loads(path.read_text())
    return [f"{path.name}: expected \"{key}\"" for key in ABOUT
            if not record.get(key)]


def main() -> int:
    source = Path(sys.argv[1])
    results = source / "docs" / "results"
    known = {path.name: numbers_measured(path) for path in sorted(results.glob("*.json"))}
    wrong = [fault for name in known for fault in check_file(results / name)]
    used, checked = set(), 0
    for document in (source / "README.md", *sorted((source / "docs").glob("*.md"))):
        for line, evidence, rows in tables(document):
            place = f"{document.relative_to(source)}:{line}"
            shown = [text for row in rows for text in NUMBER.findall(row)]
            if evidence is None and shown:
                wrong.append(f"{place}: {shown[0]} has no evidence")
            if evidence in (None, "none"):
                continue
            files = evidence.split()
            wrong += [f"{place}: there is no docs/results/{name}"
                      for name in files if name not in known]
            used.update(files)
            numbers = [number for name in files for number in known.get(name, [])]
            checked += len(shown)
            wrong += [f"{place}: {text} is not in {evidence}"
                      for text in shown if not is_shown(text, numbers)]
    wrong += [f"docs/results/{name} stands behind no table" for name in known if name not in used]
    if checked == 0:
        wrong.append("no number was compared")
    for fault in wrong:
        print(fault)
    print(f"{checked} numbers compared with {len(known)} files")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
