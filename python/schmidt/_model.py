"""A checkpoint in memory as a torch.nn.Module."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypedDict

import torch
from typing_extensions import Unpack

from . import _schmidt
from ._errors import FormatError

TokenFn = Callable[[int, int], object]


class GenerateOptions(TypedDict, total=False):
    """The options of `Model.generate`."""

    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int
    end_ids: Sequence[int] | None
    on_token: TokenFn | None


def load(path: str | os.PathLike[str], dtype: torch.dtype = torch.float32,
         device: torch.device | str = "cpu", *, full_gauge: bool = False) -> "Model":
    """Loads a model, compressed or not.

    dtype: torch.float32 or torch.bfloat16, of the computation.
    full_gauge: networks are held as plain, balanced cores, as `heal` trains them. Those have the
      names of the checkpoint's, and other shapes where it stores the fixed gauge.
    """
    name = os.fsencode(path)
    loaded = _schmidt.Model.load(name, dtype, torch.device(device), full_gauge)
    return Model(loaded, name)


class _Part(torch.nn.Module):
    """What stands under one piece of a tensor's name."""

    def extra_repr(self) -> str:
        own = [*self._parameters.items(), *self._buffers.items()]
        return ", ".join(f"{name}: {list(t.shape)}" for name, t in own if t is not None)


class Model(torch.nn.Module):
    """A causal language model whose blocks are computed by schmidt's library.

    Parameters have the names of the checkpoint and are the tensors that the library computes with:
    what an optimizer writes to them counts from the next `forward`. Codes and indices, which
    gradients do not reach, are buffers to be read. Dtype and device are those of `load`.
    """

    config: dict[str, Any]  #: config.json
    notes: list[str]  #: what one should know of the checkpoint; mostly empty

    def __init__(self, loaded: _schmidt.Model, path: bytes) -> None:
        super().__init__()
        self._loaded, self._path = loaded, path
        self.config = json.loads(loaded.config)
        self.notes = loaded.notes
        parameters, others = loaded.tensors()
        for name, tensor in parameters:
            part, last = self._part_of(name)
            part.register_parameter(last, _as_parameter(tensor))
        for name, tensor in others:
            part, last = self._part_of(name)
            part.register_buffer(last, tensor)

    def _part_of(self, name: str) -> tuple[torch.nn.Module, str]:
        *pieces, last = name.split(".")
        part: torch.nn.Module = self
        for piece in pieces:
            if piece not in part._modules:
                part.add_module(piece, _Part())
            child = part._modules[piece]
            assert child is not None
            part = child
        return part, last

    @cached_property
    def tokenizer(self) -> _schmidt.Tokenizer:
        """The tokenizer beside the weights. Raises FormatError where there is none."""
        return _schmidt.Tokenizer.load(self._path)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """ids int64 [b, t] -> logits [b, t, vocab]. Positions count from 0 in every row; right
        padding changes nothing before it. Differentiable."""
        return self._loaded.forward(input_ids)

    def generate(self, prompts: torch.Tensor | Sequence[Sequence[int]], *,
                 max_new_tokens: int = 128, temperature: float = 0.0, top_k: int = 0,
                 top_p: float = 1.0, min_p: float = 0.0, repetition_penalty: float = 1.0,
                 seed: int = 0, end_ids: Sequence[int] | None = None,
                 on_token: TokenFn | None = None) -> list[list[int]]:
        """Continues prompts of ids, which may differ in length, each by the ids that are returned.

        temperature: 0 takes the likeliest token every time. Equal seeds draw equal tokens.
        end_ids: end an answer and are no part of it; none: the model's and its tokenizer's own.
        on_token: called with row and id as each token is drawn; False ends the row.
        """
        rows = prompts.tolist() if isinstance(prompts, torch.Tensor) else prompts
        ends = [*self._loaded.end_ids] if end_ids is None else [*end_ids]
        never: list[int] = []
        try:
            if end_ids is None:
                ends += self.tokenizer.stop_ids
            without = self.tokenizer.ids_without_token(self._loaded.vocab_size)
            never = [i for i in without if i not in ends]
        except FormatError:
            pass  # nothing is known of the ids, and all may be drawn
        answers = self._loaded.generate(
            rows, max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p,
            min_p=min_p, repetition_penalty=repetition_penalty, seed=seed, end_ids=ends,
            never_drawn=never, on_token=on_token)
        return [ids for ids, _ in answers]

    def complete(self, text: str, **options: Unpack[GenerateOptions]) -> str:
        """What follows a text, with the options of `generate`."""
        (ids,) = self.generate([self.tokenizer.encode(text)], **options)
        return self.tokenizer.continuation(ids)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> "Model":
        like = next(self.parameters())
        before = torch.empty(0, dtype=like.dtype, device=like.device)
        after = fn(before)
        if (after.dtype, after.device) != (before.dtype, before.device):
            raise TypeError("schmidt.Model stays in the dtype and on the device that it was loaded "
                            "with; expected load(path, dtype=..., device=...)")
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True,
                        assign: bool = False) -> Any:
        if assign:
            raise ValueError("schmidt.Model computes with its own tensors; expected assign=False")
        for name, buffer in self.named_buffers():
            if name in state_dict and not torch.equal(buffer, state_dict[name].to(buffer.device)):
                raise ValueError(f"{name} holds codes or indices, which stay as they were loaded; "
                                 "expected the same in the state")
        return super().load_state_dict(state_dict, strict)


def _as_parameter(tensor: torch.Tensor) -> torch.nn.Parameter:
    # The leaf that the library computes with has to be the parameter itself, since gradients belong
    # to it: a Parameter made of it would be another. UninitializedParameter materializes so too.
    tensor.__class__ = torch.nn.Parameter
    assert isinstance(tensor, torch.nn.Parameter)
    tensor.requires_grad_(tensor.is_floating_point())
    return tensor
