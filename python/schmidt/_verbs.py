"""The verbs of the command line as functions. Their options are the command line's, spelled with
underscores, and are read by its parser: what it takes, it takes here, and its messages name them as
it does."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from typing_extensions import Unpack

from . import _schmidt
from ._options import CompressOptions, HealOptions, QuantizeOptions

StrPath = str | os.PathLike[str]


class Progress(NamedTuple):
    """How far a long piece of work has come."""

    stage: str  #: what is being worked on: "compress"
    item: str  #: the current item, a layer's name; may be empty
    done: int  #: units finished
    total: int  #: units in all; 0 where it is not known
    unit: str  #: what is counted: "layers"


ProgressFn = Callable[[Progress], object]
NoteFn = Callable[[str], object]


def inspect(model: StrPath) -> dict[str, Any]:
    """The architecture, the sizes and every layer of a model, as `schmidt inspect --json`.

    `model` is here and below a Hugging Face folder, a GGUF file, or the id of a model in the hub's
    local cache.
    """
    return _called("inspect", [_positional(model)], {}, None, None)


def compress(model: StrPath, out: StrPath, *, progress: ProgressFn | None = None,
             note: NoteFn | None = None, **options: Unpack[CompressOptions]) -> dict[str, Any]:
    """Makes a model smaller, by low ranks or Matrix Product Operators for its weights.

    Returns what `schmidt compress --json` prints: sizes, and errors layer by layer. One of `keep`,
    `size`, `bits_per_weight`, `speedup`, `bond`, `plan` and `recipe` says how far it goes.

    progress: called as the work goes on, in the thread of the call. What it raises ends the work
      and is raised here; so does Ctrl-C. The same call again goes on from the finished layers.
    note: called with what one should know although the work goes on.
    """
    return _called("compress", [_positional(model)], {"out": out, **options}, progress, note)


def quantize(model: StrPath, out: StrPath, *, progress: ProgressFn | None = None,
             note: NoteFn | None = None, **options: Unpack[QuantizeOptions]) -> dict[str, Any]:
    """Makes a model smaller, by integers of 8 to 2 bits for its dense weights. As `compress`."""
    return _called("quantize", [_positional(model)], {"out": out, **options}, progress, note)


def heal(model: StrPath, out: StrPath, *, progress: ProgressFn | None = None,
         note: NoteFn | None = None, **options: Unpack[HealOptions]) -> dict[str, Any]:
    """Retrains a compressed model briefly, on `data` and against its original, the `teacher`.

    As `compress`. Work that is stopped has saved its state, and the same call with `resume=True`
    goes on from it.
    """
    return _called("heal", [_positional(model)], {"out": out, **options}, progress, note)


def _called(verb: str, arguments: list[bytes], options: dict[str, Any],
            progress: ProgressFn | None, note: NoteFn | None) -> dict[str, Any]:
    for name, value in options.items():
        arguments += _option(verb, name, value)
    reported = None
    if progress is not None:
        told = progress

        def reported(stage: str, item: str, done: int, total: int, unit: str) -> object:
            return told(Progress(stage, item, done, total, unit))

    result: dict[str, Any] = json.loads(_schmidt.call_verb(verb, arguments, reported, note))
    return result


@cache
def _forms() -> dict[str, dict[str, _schmidt.OptionForm]]:
    return {verb: {form["name"].lstrip("-").replace("-", "_"): form for form in forms}
            for verb, forms in _schmidt.verbs().items()}


def _positional(value: StrPath) -> bytes:
    text = os.fsencode(value)
    return b"./" + text if text.startswith(b"-") else text  # it is no option


def _option(verb: str, name: str, value: Any) -> Iterator[bytes]:
    forms = _forms()[verb]
    if name not in forms:
        near = difflib.get_close_matches(name, forms, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise TypeError(f"{verb}() got an unexpected keyword argument '{name}'{hint}")
    form = forms[name]
    if value is None:
        return
    if not form["value"]:  # a flag
        if not isinstance(value, bool):
            raise TypeError(f"{verb}() expected True or False for {name}, got {value!r}")
        if value:
            yield form["name"].encode()
        return
    is_list = form["is_list"] or form["repeats"]
    if is_list and isinstance(value, (list, tuple)) and not value:
        raise ValueError(f"[{verb}] expected a value or more for {name}, got an empty list")
    for item in value if is_list and isinstance(value, (list, tuple)) else [value]:
        text = _text(item)
        if form["is_list"] and b"," in text and not isinstance(item, str):
            raise ValueError(f"[{verb}] expected no comma in a path of {name}, got {item}")
        yield form["name"].encode() + b"=" + text


def _text(value: Any) -> bytes:
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.").encode()
    if isinstance(value, torch.device):
        return str(value).encode()
    if isinstance(value, (str, os.PathLike)):
        return os.fsencode(value)
    return str(value).encode()
