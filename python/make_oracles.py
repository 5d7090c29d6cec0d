"""Writes the truths that the C++ tests compare with: `make_oracles.py OUT`.

Each module in python/oracles has `make(out: Path)`, which fills OUT/<module>. A
module runs again only when its source, or this file, has changed.
"""

import hashlib
import importlib
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    out = Path(sys.argv[1])
    sys.path.insert(0, str(HERE))
    driver = Path(__file__).read_bytes()
    for source in sorted((HERE / "oracles").glob("[a-z]*.py")):
        target = out / source.stem
        stamp = target / ".stamp"
        fingerprint = hashlib.sha256(driver + source.read_bytes()).hexdigest()
        if stamp.exists() and stamp.read_text() == fingerprint:
            continue
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        importlib.import_module(f"oracles.{source.stem}").make(target)
        stamp.write_text(fingerprint)
        print(f"made {target}")


if __name__ == "__main__":
    main()
