"""The kinds of compressed layers: for each its shape, read from the layer's entry in
`compression_config`, and the module that computes with it.

Part of a checkpoint compressed by schmidt; read by modeling_schmidt.py. A new kind is a
shape, a module derived from CompressedLinear, and a line in KINDS.

Tensors that a module does not use in its own `forward` belong to a small module whose
`forward` returns them: tools that keep weights on disk or on another device (device_map)
fetch a module's tensors as it is called.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from statistics import pstdev
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional


class Stored(nn.Module):
    """A module whose tensors a compressed layer stores."""

    def reset(self, std: float) -> None:
        """Fresh values of this module's own tensors, not of its children's, with which the
        layer's matrix has entries of about the given standard deviation."""


class Cores(Stored):
    """The stored cores of one network."""

    def __init__(self, shape: "MpoShape", dtype: torch.dtype, device: torch.device):
        super().__init__()
        self.shape = shape
        for k, core in enumerate(shape.stored_shapes()):
            parameter = nn.Parameter(torch.empty(core, dtype=dtype, device=device))
            self.register_parameter(str(k), parameter)

    def reset(self, std: float) -> None:
        for core, core_std in zip(self.parameters(), self.shape.core_stds(std)):
            nn.init.normal_(core, std=core_std)

    def forward(self) -> tuple[torch.Tensor, ...]:
        return tuple(self.parameters())


class Pivots(Stored):
    """For each bond, the rows of its left core that are the identity: int32 [r], ascending."""

    def __init__(self, bonds: tuple[int, ...], device: torch.device):
        super().__init__()
        for k, bond in enumerate(bonds):
            self.register_buffer(str(k), torch.arange(bond, dtype=torch.int32, device=device))

    def reset(self, std: float) -> None:
        for pivots in self.buffers():
            if not getattr(pivots, "_is_hf_initialized", False):  # set on what was loaded
                pivots.copy_(torch.arange(len(pivots), dtype=torch.int32, device=pivots.device))

    def forward(self) -> tuple[torch.Tensor, ...]:
        return tuple(self.buffers())


def _places(pivots: torch.Tensor, rows: int) -> torch.Tensor:
    """int64 [rows]: where row i is found in the pivots' rows followed by the others'."""
    is_pivot = torch.zeros(rows, dtype=torch.int64, device=pivots.device)
    is_pivot = is_pivot.index_fill(0, pivots.long(), 1)
    before = is_pivot.cumsum(0) - is_pivot
    others = len(pivots) + torch.arange(rows, device=pivots.device) - before
    return torch.where(is_pivot.bool(), before, others)


class CompressedLinear(Stored):
    """y = x W^T + bias, W [m, n] in a form of the derived class, which gives `product`."""

    def __init__(self, shape, bias: bool, dtype: torch.dtype, device: torch.device):
        super().__init__()
        self.shape = shape
        self.in_features, self.out_features = shape.in_features, shape.out_features
        self.bias = None
        if bias:
            self.bias = nn.Parameter(torch.empty(self.out_features, dtype=dtype, device=device))

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """x [rows, n] -> x W^T [rows, m]."""
        raise NotImplementedError

    def reset(self, std: float) -> None:
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.product(x.reshape(-1, self.in_features))
        y = y.reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias

    def weight_dense(self) -> torch.Tensor:
        """W [m, n]: for inspection and export."""
        like = next(p for p in self.parameters() if p.is_floating_point())
        device = "cpu" if like.is_meta else like.device  # of an offloaded layer
        return self.product(torch.eye(self.in_features, dtype=like.dtype, device=device)).T


@dataclass(frozen=True)
class MpoShape:
    """Site k of a matrix's Matrix Product Operator is [r_{k-1}, m_k, n_k, r_k].

    With a fixed gauge r_k rows of core k's unfolding [r_{k-1} m_k n_k, r_k], the pivots,
    are the identity and only the others are stored; the last core is whole.
    """

    out_dims: tuple[int, ...]
    in_dims: tuple[int, ...]
    bonds: tuple[int, ...]
    gauge_fixed: bool = False

    def core_shapes(self) -> list[tuple[int, int, int, int]]:
        ends = (1, *self.bonds, 1)
        return list(zip(ends[:-1], self.out_dims, self.in_dims, ends[1:]))

    def stored_shapes(self) -> list[tuple[int, ...]]:
        shapes = self.core_shapes()
        if not self.gauge_fixed:
            return shapes
        return [(prod(core[:3]) - core[3], core[3]) for core in shapes[:-1]] + shapes[-1:]

    def core_stds(self, std: float) -> list[float]:
        """Standard deviations of random cores whose matrix has entries of about `std`."""
        if self.gauge_fixed:  # rows of a norm of about 1, as the identity's, up to the last core
            return [max(bond, 1) ** -0.5 for bond in self.bonds] + [std]
        sites = len(self.out_dims)
        return [(std**2 / max(prod(self.bonds), 1)) ** (0.5 / sites)] * sites

    @property
    def out_features(self) -> int:
        return prod(self.out_dims)

    @property
    def in_features(self) -> int:
        return prod(self.in_dims)


def mpo_shape(entry: dict, where: str) -> MpoShape:
    for key in ("out_dims", "in_dims", "bonds"):
        sizes = entry.get(key)
        if not isinstance(sizes, list) or not all(isinstance(n, int) and n > 0 for n in sizes):
            raise ValueError(f"{where}.{key}: expected a list of positive integers, got {sizes}")
    gauge = entry.get("gauge")
    if gauge not in (None, "fixed"):
        raise ValueError(f"{where}: expected gauge fixed or no such key, got {gauge}")
    dims = (tuple(entry[key]) for key in ("out_dims", "in_dims", "bonds"))
    shape = MpoShape(*dims, gauge_fixed=gauge == "fixed")
    if not len(shape.out_dims) == len(shape.in_dims) == len(shape.bonds) + 1:
        raise ValueError(f"{where}: out_dims, in_dims and bonds do not fit each other")
    if any(size < 0 for core in shape.stored_shapes() for size in core):
        raise ValueError(f"{where}: expected no bond beyond what its left side can carry")
    return shape


def _sweep_from_left(cores: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    # The state is [rows, outputs so far, bond, inputs to come].
    state = x[:, None, None, :]
    for core in cores:
        left, out_dim, in_dim, right = core.shape
        rows, done, _, to_come = state.shape
        state = state.reshape(rows, done, left, in_dim, to_come // in_dim)
        state = torch.einsum("zdlit,loir->zdort", state, core)
        state = state.reshape(rows, done * out_dim, right, to_come // in_dim)
    return state.flatten(1)


def _sweep_from_right(cores: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    # The state is [rows, inputs to come, bond, outputs so far].
    state = x[:, :, None, None]
    for core in reversed(cores):
        left, out_dim, in_dim, right = core.shape
        rows, to_come, _, done = state.shape
        state = state.reshape(rows, to_come // in_dim, in_dim, right, done)
        state = torch.einsum("ztird,loir->ztlod", state, core)
        state = state.reshape(rows, to_come // in_dim, left, out_dim * done)
    return state.flatten(1)


def _sweep_cost(shape: MpoShape, from_left: bool) -> int:
    """Multiplications for one row of x."""
    done, to_come, total = 1, shape.in_features, 0
    cores = shape.core_shapes()
    for left, out_dim, in_dim, right in cores if from_left else reversed(cores):
        to_come //= in_dim
        total += done * to_come * left * out_dim * in_dim * right
        done *= out_dim
    return total


class MpoLinear(CompressedLinear):
    """W as one network of cores."""

    def __init__(self, shape: MpoShape, bias: bool, dtype: torch.dtype, device: torch.device):
        super().__init__(shape, bias, dtype, device)
        self.cores = Cores(shape, dtype, device)
        self.pivots = Pivots(shape.bonds, device) if shape.gauge_fixed else None
        from_left = _sweep_cost(shape, from_left=True) < _sweep_cost(shape, from_left=False)
        self._sweep = _sweep_from_left if from_left else _sweep_from_right

    def full_cores(self) -> list[torch.Tensor]:
        """The cores [r_{k-1}, m_k, n_k, r_k], the identity rows in their places."""
        stored = self.cores()
        if self.pivots is None:
            return list(stored)
        cores = []
        for core, others, pivots in zip(self.shape.core_shapes(), stored, self.pivots()):
            identity = torch.eye(core[3], dtype=others.dtype, device=others.device)
            stacked = torch.cat([identity, others])
            cores.append(stacked[_places(pivots, prod(core[:3]))].reshape(core))
        return [*cores, stored[-1]]

    def product(self, x: torch.Tensor) -> torch.Tensor:
        shape = self.shape
        low_rank = len(shape.bonds) == 1 and shape.in_dims[0] == shape.out_dims[1] == 1
        if self.pivots is None or not low_rank:
            return self._sweep(self.full_cores(), x)
        # The pivots' outputs come from x, all others from those.
        others, last = self.cores()
        chosen = functional.linear(x, last.flatten(1))
        outputs = torch.cat([chosen, functional.linear(chosen, others)], dim=-1)
        (pivots,) = self.pivots()
        return outputs.index_select(-1, _places(pivots, self.out_features))


@dataclass(frozen=True)
class QuantizedShape:
    """W_ij = s_ig (q_ij - z_ig), q and z whole numbers of `bits` bits, g = j // group."""

    out_features: int
    in_features: int
    bits: int
    group: int
    symmetric: bool

    @property
    def groups(self) -> int:
        return self.in_features // self.group

    def words(self, codes: int) -> int:
        """Words of 32 bits that hold so many codes."""
        return -(-codes * self.bits // 32)


def quantized_shape(entry: dict, where: str) -> QuantizedShape:
    sizes = entry.get("shape")
    numbers = sizes if isinstance(sizes, list) and len(sizes) == 2 else [None]
    numbers = [*numbers, entry.get("bits"), entry.get("group")]
    if not all(type(n) is int and n > 0 for n in numbers):
        raise ValueError(f"{where}: expected a shape, bits and a group, got {numbers}")
    shape = QuantizedShape(*numbers, symmetric=entry.get("symmetric") is True)
    if shape.bits not in (2, 3, 4, 5, 6, 8) or shape.in_features % shape.group:
        raise ValueError(
            f"{where}: expected 8, 6, 5, 4, 3 or 2 bits and a group that divides {shape.in_features}, "
            f"got {shape.bits} and {shape.group}"
        )
    return shape


def _unpacked(words: torch.Tensor, codes: int, bits: int) -> torch.Tensor:
    """int32 [rows, words] -> the codes of each row, int64 [rows, codes]: code i begins at bit
    i * bits of the row, from the lowest bit of its first word on."""
    bit = torch.arange(codes, device=words.device) * bits
    unsigned = words.long() & 0xFFFFFFFF
    low = unsigned[:, bit // 32]
    high = unsigned[:, (bit // 32 + 1).clamp(max=words.shape[1] - 1)]
    return ((low | (high << 32)) >> (bit % 32)) & ((1 << bits) - 1)


class QuantizedLinear(CompressedLinear):
    """W in integers of few bits, packed as compressed-tensors packs them. Its scales may be
    trained, its codes not."""

    def __init__(self, shape: QuantizedShape, bias: bool, dtype: torch.dtype, device: torch.device):
        super().__init__(shape, bias, dtype, device)
        rows, groups = shape.out_features, shape.groups
        scales = torch.empty(rows, groups, dtype=dtype, device=device)
        self.weight_scale = nn.Parameter(scales)
        sizes = {"weight_packed": (rows, shape.words(shape.in_features))}
        if not shape.symmetric:
            sizes["weight_zero_point"] = shape.words(rows), groups
        for name, size in sizes.items():
            self.register_buffer(name, torch.zeros(size, dtype=torch.int32, device=device))
        sizes = torch.tensor([rows, shape.in_features], device=device)
        self.register_buffer("weight_shape", sizes)

    def reset(self, std: float) -> None:
        super().reset(std)
        levels = 2**self.shape.bits
        nn.init.constant_(self.weight_scale, std * 12**0.5 / levels)
        for name, buffer in self.named_buffers(recurse=False):
            if getattr(buffer, "_is_hf_initialized", False):  # set on what was loaded
                continue
            if name == "weight_shape":
                buffer.copy_(torch.tensor([self.out_features, self.in_features]))
            else:
                buffer.random_(-(2**31), 2**31)

    def rows(self, words: torch.Tensor, scales: torch.Tensor, zeros) -> torch.Tensor:
        """The rows [.., n] of these packed rows, scales and zero points."""
        shape = self.shape
        codes = _unpacked(words, shape.in_features, shape.bits).view(-1, shape.groups, shape.group)
        return ((codes - zeros).to(scales.dtype) * scales[..., None]).flatten(1)

    def zeros(self, chosen=slice(None)):
        shape = self.shape
        if shape.symmetric:
            return 2 ** (shape.bits - 1)
        zeros = _unpacked(self.weight_zero_point.T, shape.out_features, shape.bits).T
        return zeros[chosen, :, None]

    def dense(self) -> torch.Tensor:
        return self.rows(self.weight_packed, self.weight_scale, self.zeros())

    def product(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.dense().to(x.dtype))


# The quantiles of the normal distribution that the codes of NF4 stand for.
NF4_LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip
# Tensors of bitsandbytes, whose names no module can have beside one named "weight", and the names
# that they have here.
NF4_NAMES = {
    ".weight.absmax": ".weight_absmax",
    ".weight.quant_map": ".weight_quant_map",
    ".weight.nested_absmax": ".weight_nested_absmax",
    ".weight.nested_quant_map": ".weight_nested_quant_map",
    ".weight.quant_state.bitsandbytes__nf4": ".weight_quant_state",
}


@dataclass(frozen=True)
class Nf4Shape:
    """W_i = a_b L[q_i], i counting row by row, b = i // block; a_b are numbers, or with nested
    blocks a_b = A_c D[p_b] + offset, c = b // nested_block."""

    out_features: int
    in_features: int
    block: int
    nested_block: int  # 0: none
    state_bytes: int  # of the JSON text that holds the offset

    @property
    def numel(self) -> int:
        return self.out_features * self.in_features

    @property
    def blocks(self) -> int:
        return -(-self.numel // self.block)

    def buffers(self) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        sizes = {
            "weight": (torch.uint8, (-(-self.numel // 2), 1)),
            "weight_absmax": (torch.float32, (self.blocks,)),
            "weight_quant_map": (torch.float32, (len(NF4_LEVELS),)),
            "weight_quant_state": (torch.uint8, (self.state_bytes,)),
        }
        if self.nested_block:
            sizes["weight_absmax"] = torch.uint8, (self.blocks,)
            sizes["weight_nested_absmax"] = torch.float32, (-(-self.blocks // self.nested_block),)
            sizes["weight_nested_quant_map"] = torch.float32, (256,)
        return sizes


def nf4_shape(entry: dict, where: str) -> Nf4Shape:
    sizes = entry.get("shape")
    numbers = sizes if isinstance(sizes, list) and len(sizes) == 2 else [None]
    nested = entry.get("nested_block", 0)
    numbers = [*numbers, entry.get("block"), nested, entry.get("state_bytes")]
    if not all(type(n) is int and n >= 0 for n in numbers) or 0 in (*numbers[:3], numbers[4]):
        raise ValueError(f"{where}: expected a shape, a block and state_bytes, got {entry}")
    return Nf4Shape(*numbers)


class Nf4Linear(CompressedLinear):
    """W in NF4, in the tensors of bitsandbytes. None of them is trained."""

    def __init__(self, shape: Nf4Shape, bias: bool, dtype: torch.dtype, device: torch.device):
        super().__init__(shape, bias, dtype, device)
        for name, (own, size) in shape.buffers().items():
            self.register_buffer(name, torch.zeros(size, dtype=own, device=device))
        self._offset = None

    def reset(self, std: float) -> None:
        super().reset(std)
        shape = self.shape
        magnitude = float(f"{std / pstdev(NF4_LEVELS):.3g}")
        # With all A_c = 0 the offset is the magnitude of every block.
        state = {"quant_type": "nf4", "blocksize": shape.block, "dtype": "float32"}
        state["shape"] = [shape.out_features, shape.in_features]
        if shape.nested_block:
            state |= {"nested_blocksize": shape.nested_block, "nested_dtype": "float32"}
            state["nested_offset"] = magnitude
        text = json.dumps(state, separators=(",", ":")).encode().ljust(shape.state_bytes)
        values = {
            "weight_absmax": 0 if shape.nested_block else magnitude,
            "weight_quant_map": NF4_LEVELS,
            "weight_nested_absmax": 0,
            "weight_nested_quant_map": 0,
            "weight_quant_state": list(text),
        }
        for name, buffer in self.named_buffers(recurse=False):
            if getattr(buffer, "_is_hf_initialized", False):  # set on what was loaded
                continue
            if name == "weight":
                buffer.random_(0, 256)
            else:
                buffer.copy_(torch.tensor(values[name], device=buffer.device))

    def offset(self) -> float:
        if self._offset is None:
            text = bytes(self.weight_quant_state.tolist())
            self._offset = float(json.loads(text).get("nested_offset", 0.0))
        return self._offset

    def magnitudes(self) -> torch.Tensor:
        """float32 [blocks]."""
        if not self.shape.nested_block:
            return self.weight_absmax.float()
        nested = self.weight_nested_absmax.float().repeat_interleave(self.shape.nested_block)
        rounded = self.weight_nested_quant_map.float()[self.weight_absmax.long()]
        return rounded * nested[: self.shape.blocks] + self.offset()

    def dense(self) -> torch.Tensor:
        """W [m, n], float32."""
        shape = self.shape
        codes = torch.cat([self.weight >> 4, self.weight & 15], dim=1).flatten()[: shape.numel]
        magnitudes = self.magnitudes().repeat_interleave(shape.block)[: shape.numel]
        levels = self.weight_quant_map.float()[codes.long()]
        return (levels * magnitudes).view(shape.out_features, shape.in_features)

    def product(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.dense().to(x.dtype))

    def weight_dense(self) -> torch.Tensor:
        return self.dense()


@dataclass(frozen=True)
class FactoredShape:
    """W = L R, both in integers of few bits."""

    left: QuantizedShape
    right: QuantizedShape

    @property
    def out_features(self) -> int:
        return self.left.out_features

    @property
    def in_features(self) -> int:
        return self.right.in_features


def factored_shape(entry: dict, where: str) -> FactoredShape:
    left, right = (
        quantized_shape(entry.get(side) or {}, f"{where}.{side}") for side in ("left", "right")
    )
    if left.in_features != right.out_features:
        raise ValueError(f"{where}: expected factors of matching shapes, got {left} and {right}")
    return FactoredShape(left, right)


class FactoredLinear(CompressedLinear):
    """A low rank whose factors are quantized."""

    def __init__(self, shape: FactoredShape, bias: bool, dtype: torch.dtype, device: torch.device):
        super().__init__(shape, bias, dtype, device)
        self.left = QuantizedLinear(shape.left, False, dtype, device)
        self.right = QuantizedLinear(shape.right, False, dtype, device)

    def product(self, x: torch.Tensor) -> torch.Tensor:
        return self.left(self.right(x))


class SumShape(NamedTuple):
    """Several weights of one size that are added, each with its kind."""

    kinds: tuple[str, ...]
    terms: tuple

    @property
    def out_features(self) -> int:
        return self.terms[0].out_features

    @property
    def in_features(self) -> int:
        return self.terms[0].in_features


def sum_shape(entry: dict, where: str) -> SumShape:
    entries = entry.get("terms")
    if not isinstance(entries, list) or not all(isinstance(term, dict) for term in entries):
        raise ValueError(f"{where}.terms: expected a list of objects, got {entries}")
    kinds = tuple(term.get("kind", "mpo") for term in entries)
    terms = tuple(
        layer_shape(kind, term, f"{where}.terms.{i}")
        for i, (kind, term) in enumerate(zip(kinds, entries))
    )
    if len(terms) < 2 or len({(term.out_features, term.in_features) for term in terms}) != 1:
        raise ValueError(f"{where}: expected two terms or more of one size")
    return SumShape(kinds, terms)


class SumLinear(CompressedLinear):
    """W = W_0 + W_1 + .., each of a kind of its own."""

    def __init__(self, shape: SumShape, bias: bool, dtype: torch.dtype, device: torch.device):
        super().__init__(shape, bias, dtype, device)
        self.terms = nn.ModuleList(
            compressed_linear(kind, term, False, dtype, device)
            for kind, term in zip(shape.kinds, shape.terms)
        )

    def product(self, x: torch.Tensor) -> torch.Tensor:
        return sum(term(x) for term in self.terms)


class QuantizedEmbedding(QuantizedLinear):
    """The same as an embedding, and called with hidden states the head that is tied to it."""

    scale = 1.0  # of what it gives for ids

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        if ids.is_floating_point():
            return super().forward(ids)
        chosen = ids.flatten()
        rows = self.rows(self.weight_packed[chosen], self.weight_scale[chosen], self.zeros(chosen))
        if self.scale != 1.0:
            rows = rows * torch.tensor(self.scale).to(rows.dtype)
        return rows.view(*ids.shape, self.in_features)


class TiedHead(nn.Module):
    """The output layer of a model whose embedding, under `name` in `parent`, is also that."""

    def __init__(self, parent: nn.Module, name: str, embedding: QuantizedEmbedding):
        super().__init__()
        self._parent, self._name = (parent,), name  # in a tuple, so that it is no submodule
        self.in_features, self.out_features = embedding.in_features, embedding.out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return getattr(self._parent[0], self._name)(x)


class Kind(NamedTuple):
    shape: Callable  # (entry, name for messages) -> shape with out_features and in_features
    module: type[CompressedLinear]  # (shape, bias, dtype, device)


KINDS = {
    "mpo": Kind(mpo_shape, MpoLinear),
    "sum": Kind(sum_shape, SumLinear),
    "quantized": Kind(quantized_shape, QuantizedLinear),
    "factored": Kind(factored_shape, FactoredLinear),
    "nf4": Kind(nf4_shape, Nf4Linear),
}


def layer_shape(kind: str, entry: dict, where: str):
    """The shape of a layer's entry. Raises ValueError where the entry is none of its kind."""
    if kind not in KINDS:
        raise ValueError(f"{where}: expected a kind among {', '.join(KINDS)}, got {kind}")
    return KINDS[kind].shape(entry, where)


def compressed_linear(
    kind: str, shape, bias: bool, dtype: torch.dtype, device: torch.device
) -> CompressedLinear:
    """A layer of the shape, its values not set."""
    return KINDS[kind].module(shape, bias, dtype, device)
