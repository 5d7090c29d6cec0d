"""Compressed language models, made and run: the library and the verbs of schmidt for Python.

    import schmidt

    schmidt.compress("model", "small", keep=0.8, calibration=["text.txt"])
    model = schmidt.load("small")
    print(model.complete("Once upon a time", max_new_tokens=32))

`inspect`, `compress`, `quantize` and `heal` are the verbs of the command line. `load` gives a
`torch.nn.Module` of the same checkpoint.
"""

import torch

from . import _build

if torch.__version__.split("+")[0] != _build.torch_version:
    raise ImportError(
        f"this schmidt was built with torch {_build.torch_version} and needs it; found torch "
        f"{torch.__version__}: install torch=={_build.torch_version}, or build schmidt again")

from ._errors import FormatError
from ._model import Model, load
from ._schmidt import Tokenizer
from ._verbs import Progress, compress, heal, inspect, quantize

__version__ = _build.version
__all__ = ["FormatError", "Model", "Progress", "Tokenizer", "compress", "heal", "inspect", "load",
           "quantize"]
