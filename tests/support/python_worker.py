"""Runs scripts one after the other, each in a process of its own, without a new import for each.

Reads requests from stdin, a JSON object a line: `command`, a script and its arguments as in a
shell; `stderr`, a file. Answers each with the exit code of the script, a line on stdout. What a
script imports of the packages below is imported once, before its process is forked. Ends at the
end of stdin.
"""

import importlib
import json
import os
import runpy
import shlex
import sys
import tempfile
import traceback
from pathlib import Path

# By what a script says; the heavy parts of transformers are imported when they are named.
PACKAGES = {"torch": "torch", "transformers": "transformers.modeling_utils"}


def run(argv: list[str]) -> int:
    """As `python SCRIPT ..`."""
    sys.argv = argv
    sys.path.insert(0, str(Path(argv[0]).parent))
    try:
        runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def in_child(argv: list[str], stderr: str) -> int:
    if (child := os.fork()) == 0:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        code = run(argv)
        sys.stderr.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"HF_HOME": home, "HF_HUB_OFFLINE": "1"}
        for line in sys.stdin:
            request = json.loads(line)
            argv = shlex.split(request["command"])
            script = Path(argv[0]).read_text()
            for package, module in PACKAGES.items():
                if f"import {package}" in script or f"from {package}" in script:
                    importlib.import_module(module)
            print(in_child(argv, request["stderr"]), flush=True)


if __name__ == "__main__":
    main()
