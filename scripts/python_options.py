"""Prints python/schmidt/_options.py: the options of the verbs as types, as their parser has them.

usage: python_options.py >python/schmidt/_options.py      with the package installed
"""

from __future__ import annotations

import textwrap

from schmidt import _schmidt

HEAD = '''"""Options of the verbs, written by scripts/python_options.py: what the command line takes."""

import os
from collections.abc import Sequence
from typing import Literal, TypedDict

import torch
from typing_extensions import Required

StrPath = str | os.PathLike[str]
'''
TYPES = {"INT": "int", "UINT": "int", "FLOAT": "float", "TEXT": "str | float", "FILE": "StrPath",
         "FOLDER": "StrPath", "PATH": "StrPath", "PATH|ID": "StrPath", "POSITIVE": "float"}
MORE = {"device": "torch.device", "dtype": "torch.dtype"}  # beside the words of the command line


def type_of(form: _schmidt.OptionForm, name: str) -> str:
    if not form["value"]:
        return "bool"
    one = TYPES[form["value"]]
    if form["choices"]:
        quote = "{}" if one == "int" else '"{}"'
        one = f"Literal[{', '.join(quote.format(choice) for choice in form['choices'])}]"
    if name in MORE:
        one += f" | {MORE[name]}"
    if form["is_list"] or form["repeats"]:
        one = f"{one} | Sequence[{one}]"
    return f"Required[{one}]" if form["is_required"] else f"{one} | None"


def field(form: _schmidt.OptionForm) -> str:
    name = form["name"].lstrip("-").replace("-", "_")
    help = form["help"] + (f" ({form['default']})" if form["default"] else "")
    comment = textwrap.wrap(help, 98, initial_indent="    #: ", subsequent_indent="    #: ")
    line = f"    {name}: {type_of(form, name)}"
    if len(line) > 100:  # of many choices
        line = f"    {name}: ({type_of(form, name)})"
        line = "\n".join(textwrap.wrap(line, 100, subsequent_indent="        ",
                                       break_long_words=False, break_on_hyphens=False))
    return "\n".join([*comment, line])


def main() -> None:
    print(HEAD)
    for verb, forms in _schmidt.verbs().items():
        if verb == "inspect":
            continue
        fields = [field(form) for form in forms if form["name"] != "--out"]
        print(f"\nclass {verb.capitalize()}Options(TypedDict, total=False):")
        print("\n".join(fields) + "\n")


main()
