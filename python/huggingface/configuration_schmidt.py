"""What a checkpoint's `compression_config` says, checked.

Part of a checkpoint compressed by schmidt; read by modeling_schmidt.py. The
architecture's own configuration class stays in use: this adds no fields to it.
"""

from dataclasses import dataclass
from math import prod

VERSION = 1


@dataclass(frozen=True)
class MpoShape:
    """Site k of a layer's Matrix Product Operator is [r_{k-1}, m_k, n_k, r_k]."""

    out_dims: tuple[int, ...]
    in_dims: tuple[int, ...]
    bonds: tuple[int, ...]

    def core_shapes(self) -> list[tuple[int, int, int, int]]:
        ends = (1, *self.bonds, 1)
        return list(zip(ends[:-1], self.out_dims, self.in_dims, ends[1:]))

    @property
    def out_features(self) -> int:
        return prod(self.out_dims)

    @property
    def in_features(self) -> int:
        return prod(self.in_dims)


def compressed_layers(config) -> dict[str, MpoShape]:
    """Layer name -> shape. Raises ValueError for what this file does not know."""
    compression = getattr(config, "compression_config", None) or {}
    if compression.get("version", VERSION) != VERSION:
        raise ValueError(f"compression_config: expected version {VERSION}, got {compression['version']}")
    layers = {}
    for name, layer in compression.get("layers", {}).items():
        if layer["kind"] != "mpo":
            raise ValueError(f"{name}: expected kind mpo, got {layer['kind']}")
        shape = MpoShape(*(tuple(layer[key]) for key in ("out_dims", "in_dims", "bonds")))
        if not len(shape.out_dims) == len(shape.in_dims) == len(shape.bonds) + 1:
            raise ValueError(f"{name}: out_dims, in_dims and bonds do not fit each other")
        layers[name] = shape
    return layers
