"""What a checkpoint's `compression_config` says, checked.

Part of a checkpoint compressed by schmidt; read by modeling_schmidt.py. The
architecture's own configuration class stays in use: this adds no fields to it.
"""

from dataclasses import dataclass
from math import prod

VERSION = 1

# Layers of one input that may be stored as one, their outputs stacked in this order.
FUSED = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
}


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

    @property
    def out_features(self) -> int:
        return prod(self.out_dims)

    @property
    def in_features(self) -> int:
        return prod(self.in_dims)


@dataclass(frozen=True)
class LayerForm:
    """How a layer is stored: as one network, or as a sum of several."""

    terms: tuple[MpoShape, ...]
    is_sum: bool
    members: tuple[str, ...]  # full names of the layers it stands for; its own name alone if one

    @property
    def out_features(self) -> int:
        return self.terms[0].out_features

    @property
    def in_features(self) -> int:
        return self.terms[0].in_features


def _mpo_shape(form: dict, where: str) -> MpoShape:
    dims = (tuple(form[key]) for key in ("out_dims", "in_dims", "bonds"))
    gauge = form.get("gauge")
    if gauge not in (None, "fixed"):
        raise ValueError(f"{where}: expected gauge fixed or no such key, got {gauge}")
    shape = MpoShape(*dims, gauge_fixed=gauge == "fixed")
    if not len(shape.out_dims) == len(shape.in_dims) == len(shape.bonds) + 1:
        raise ValueError(f"{where}: out_dims, in_dims and bonds do not fit each other")
    if any(size < 0 for core in shape.stored_shapes() for size in core):
        raise ValueError(f"{where}: expected no bond beyond what its left side can carry")
    return shape


def _mpo_terms(form: dict, where: str) -> tuple[MpoShape, ...]:
    return (_mpo_shape(form, where),)


def _sum_terms(form: dict, where: str) -> tuple[MpoShape, ...]:
    terms = tuple(_mpo_shape(term, f"{where}.terms.{i}") for i, term in enumerate(form["terms"]))
    if len(terms) < 2 or len({(term.out_features, term.in_features) for term in terms}) != 1:
        raise ValueError(f"{where}: expected two terms or more of one size")
    return terms


_KINDS = {"mpo": _mpo_terms, "sum": _sum_terms}


def _members(name: str) -> tuple[str, ...]:
    parent, _, leaf = name.rpartition(".")
    return tuple(f"{parent}.{member}" for member in FUSED[leaf]) if leaf in FUSED else (name,)


def compressed_layers(config) -> dict[str, LayerForm]:
    """Layer name -> form. Raises ValueError for what this file does not know."""
    compression = getattr(config, "compression_config", None) or {}
    if compression.get("version", VERSION) != VERSION:
        raise ValueError(f"compression_config: expected version {VERSION}, got {compression['version']}")
    entries = compression.get("layers", {})
    layers = {}
    for name, entry in entries.items():
        if entry["kind"] not in _KINDS:
            raise ValueError(f"{name}: expected a kind among {', '.join(_KINDS)}, got {entry['kind']}")
        members = _members(name)
        for member in members:
            if member != name and member in entries:
                raise ValueError(f"{member}: expected no entry of its own beside {name}")
        terms = _KINDS[entry["kind"]](entry, name)
        layers[name] = LayerForm(terms, entry["kind"] == "sum", members)
    return layers
