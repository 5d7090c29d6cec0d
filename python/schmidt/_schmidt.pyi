"""The extension module, src/schmidt/python. What its functions mean stands with their callers."""

from collections.abc import Callable, Sequence
from typing import TypedDict

import torch

class OptionForm(TypedDict):
    name: str
    help: str
    value: str
    choices: list[str]
    default: str
    is_list: bool
    repeats: bool
    is_required: bool

def verbs() -> dict[str, list[OptionForm]]: ...
def call_verb(verb: str, arguments: Sequence[bytes],
              progress: Callable[[str, str, int, int, str], object] | None,
              note: Callable[[str], object] | None) -> str: ...

class Model:
    @staticmethod
    def load(path: bytes, dtype: torch.dtype, device: torch.device, full_gauge: bool) -> Model: ...
    @property
    def config(self) -> str: ...
    @property
    def notes(self) -> list[str]: ...
    @property
    def end_ids(self) -> list[int]: ...
    @property
    def vocab_size(self) -> int: ...
    def tensors(self) -> tuple[list[tuple[str, torch.Tensor]], list[tuple[str, torch.Tensor]]]: ...
    def forward(self, ids: torch.Tensor) -> torch.Tensor: ...
    def generate(self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int,
                 temperature: float, top_k: int, top_p: float, min_p: float,
                 repetition_penalty: float, seed: int, end_ids: Sequence[int] | None,
                 never_drawn: Sequence[int],
                 on_token: Callable[[int, int], object] | None) -> list[tuple[list[int], str]]: ...

class Tokenizer:
    """Text to token ids and back, as the model's tokenizer has it."""

    @staticmethod
    def load(path: str | bytes) -> Tokenizer: ...
    def encode(self, text: str, *, parse_special: bool = True,
               add_special: bool = True) -> list[int]:
        """parse_special: special tokens written in the text become their ids; add_special: with
        what the tokenizer adds of itself (BOS, EOS)."""
    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str: ...
    def continuation(self, ids: Sequence[int]) -> str:
        """The text of ids that go on within a text, whose first space stays."""
    def ids_without_token(self, vocab_size: int) -> list[int]: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def bos_id(self) -> int | None: ...
    @property
    def eos_id(self) -> int | None: ...
    @property
    def stop_ids(self) -> list[int]: ...
    @property
    def chat_template(self) -> str:
        """Its Jinja source; empty where there is none."""
