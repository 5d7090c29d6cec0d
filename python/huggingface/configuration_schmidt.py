"""What a checkpoint's `compression_config` says, checked.

Part of a checkpoint compressed by schmidt; read by modeling_schmidt.py. The
architecture's own configuration class stays in use: this adds no fields to it.
How a layer of each kind is laid out stands in layers_schmidt.py.
"""

from dataclasses import dataclass

VERSION = 1

# Layers of one input that may be stored as one, their outputs stacked in this order.
FUSED = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
    "w1_w3": ("w1", "w3"),
}


@dataclass(frozen=True)
class LayerEntry:
    """One layer of `compression_config.layers`."""

    name: str
    kind: str
    entry: dict  # the kind's own fields are for the kind to read
    members: tuple[str, ...]  # full names of the layers it stands for; its own name alone if one


def _members(name: str) -> tuple[str, ...]:
    parent, _, leaf = name.rpartition(".")
    return tuple(f"{parent}.{member}" for member in FUSED[leaf]) if leaf in FUSED else (name,)


def _compression(config) -> dict:
    compression = getattr(config, "compression_config", None) or {}
    if (version := compression.get("version", VERSION)) != VERSION:
        raise ValueError(f"compression_config: expected version {VERSION}, got {version}")
    return compression


def mlp_sizes(config) -> list[int]:
    """Neurons of each block's MLP, where some were pruned; else nothing."""
    return _compression(config).get("mlp_sizes") or []


def compressed_layers(config) -> list[LayerEntry]:
    """The compressed layers of a model. Raises ValueError for what this file does not know."""
    entries = _compression(config).get("layers") or {}
    layers = []
    for name, entry in entries.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
            raise ValueError(f"{name}: expected an object with the layer's kind, got {entry}")
        members = _members(name)
        for member in members:
            if member != name and member in entries:
                raise ValueError(f"{member}: expected no entry of its own beside {name}")
        layers.append(LayerEntry(name, entry["kind"], entry, members))
    return layers
