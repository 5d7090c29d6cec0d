"""Fails when a folder includes one that it must not know: dependencies point down.

The table is the architecture; ARCHITECTURE.md explains it.
usage: check_includes.py ROOT
"""

import re
import sys
from pathlib import Path

ALLOWED = {
    "base": set(),
    "quant": {"base"},
    "kernels": {"base", "quant"},
    "tn": {"base", "kernels"},
    "io": {"base", "quant"},
    "parallel": {"base"},
    "text": {"base", "io"},
    "model": {"base", "quant", "kernels", "tn", "io"},
    "infer": {"base", "model"},
    "serve": {"base", "io", "text", "model", "infer"},
    "package": {"base", "io", "text", "model"},
    "convert": {"base", "quant", "tn", "io", "text", "model", "package"},
    "plan": {"base", "quant", "tn", "io", "model", "package"},
    "calibrate": {"base", "kernels", "tn", "io", "model", "package", "plan"},
    "eval": {"base", "io", "text", "model"},
    "compress": {"base", "quant", "kernels", "tn", "io", "model", "package", "plan", "calibrate"},
    "heal": {"base", "kernels", "parallel", "tn", "io", "text", "model", "package", "calibrate",
             "eval"},
    "profile": {"base", "tn", "io", "parallel", "model", "package", "plan", "calibrate", "eval",
                "compress"},
    "report": {"base", "tn", "io", "model", "plan", "profile", "heal"},
    "pipeline": {"base", "quant", "parallel", "tn", "io", "text", "model", "package",
                 "convert", "plan", "calibrate", "eval", "compress", "heal", "profile", "report"},
    "cli": {"base", "quant", "kernels", "tn", "io", "parallel", "text", "model", "infer", "serve",
            "package", "convert", "plan", "calibrate", "eval", "compress", "heal", "profile",
            "report", "pipeline"},
}
ALLOWED["python"] = set(ALLOWED)
# schmidt.h, the library in one header, and what it includes beside the folders.
ALLOWED["."] = set(ALLOWED) - {"cli", "python"}
TOP = {"schmidt/version.h"}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def main() -> int:
    source = Path(sys.argv[1]) / "src" / "schmidt"
    problems = []
    for file in sorted([*source.rglob("*.h"), *source.rglob("*.cpp")]):
        parts = file.relative_to(source).parts
        folder = parts[0] if len(parts) > 1 else "."
        if folder not in ALLOWED:
            problems.append(f"{file}: folder {folder} is not in the table")
            continue
        for include in INCLUDE.findall(file.read_text()):
            parts = include.split("/")
            if folder == "." and include in TOP:
                continue
            if parts[0] != "schmidt" or len(parts) < 3:
                problems.append(f'{file}: "{include}" is not written from the root of src')
            elif parts[1] != folder and parts[1] not in ALLOWED[folder]:
                problems.append(f"{file}: {folder} must not include {parts[1]}")
    print("\n".join(problems) if problems else "include directions: in order")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
