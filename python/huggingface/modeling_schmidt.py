"""Opens a checkpoint compressed by schmidt in transformers, 4.46 or newer:

    AutoModelForCausalLM.from_pretrained(DIR, trust_remote_code=True)

The architecture's own class does everything but the compressed layers, which
layers_schmidt.py computes.
"""

import shutil
from pathlib import Path

import torch
import transformers
from torch import nn
from torch.utils.weak import TensorWeakRef
from transformers import AutoModelForCausalLM, PreTrainedModel

from .configuration_schmidt import FUSED, LayerEntry, compressed_layers, mlp_sizes
from .layers_schmidt import (
    NF4_NAMES,
    QuantizedEmbedding,
    Stored,
    TiedHead,
    compressed_linear,
    layer_shape,
)

OLDEST = (4, 46)
if tuple(int(part) for part in transformers.__version__.split(".")[:2]) < OLDEST:
    raise ImportError(
        "a checkpoint compressed by schmidt: expected transformers "
        f"{OLDEST[0]}.{OLDEST[1]} or newer, got {transformers.__version__}"
    )
CODE = ("configuration_schmidt.py", "layers_schmidt.py", "modeling_schmidt.py")


class SharedProduct:
    """The output of a layer that several share, made once for an input.

    It is kept until each of the others has taken it. The input is known by its
    identity, held weakly, and by its version, so that neither a tensor at the same
    address nor the same tensor with new values is taken for it; the same holds for
    the layer's parameters. Tensors of inference mode have no version: there every
    member computes its own. So does a graph that is compiled, in which the compiler
    merges equal products.
    """

    def __init__(self):
        self._kept = None  # (input, state, output, members that have yet to take it)

    def __reduce__(self):  # what is kept is of no use to a copy
        return SharedProduct, ()

    def take(self, layer: nn.Module, x: torch.Tensor, member: str, members: tuple[str, ...]):
        """layer(x) [..., m], for one of `members`."""
        tensors = [x, *layer.parameters()]
        if torch.compiler.is_compiling() or any(t.is_inference() for t in tensors):
            return layer(x)
        state = (
            torch.is_grad_enabled(),
            torch.is_autocast_enabled(x.device.type),
            [t._version for t in tensors],
        )
        kept = self._kept
        if kept is not None and kept[0]() is x and kept[1] == state and member in kept[3]:
            waiting = kept[3] - {member}
            self._kept = (*kept[:3], waiting) if waiting else None
            return kept[2]
        y = layer(x)
        self._kept = (TensorWeakRef(x), state, y, set(members) - {member})
        return y


class SharedRows(nn.Module):
    """One layer of a group stored as one: some rows of the group's shared layer.

    The shared layer belongs to `parent`, under whose name its parameters are stored.
    """

    def __init__(
        self,
        parent: nn.Module,
        shared: str,
        product: SharedProduct,
        member: str,
        members: tuple[str, ...],
        rows: range,
    ):
        super().__init__()
        self._parent = (parent,)  # in a tuple, so that it is no submodule
        self._shared, self._shared_product = shared, product
        self._member, self._members = member, members
        self._rows = rows
        self.in_features, self.out_features = getattr(parent, shared).in_features, len(rows)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layer = getattr(self._parent[0], self._shared)
        y = self._shared_product.take(layer, x, self._member, self._members)
        return y[..., self._rows.start : self._rows.stop]

    def weight_dense(self) -> torch.Tensor:
        """W [m, n]: for inspection and export."""
        weight = getattr(self._parent[0], self._shared).weight_dense()
        return weight[self._rows.start : self._rows.stop]


class StackedRows(nn.Module):
    """A layer of the architecture whose rows are those of several layers of `parent`."""

    def __init__(self, parent: nn.Module, members: tuple[str, ...], in_features: int, rows: int):
        super().__init__()
        self._parent, self._members = (parent,), members  # in a tuple, so that it is no submodule
        self.in_features, self.out_features = in_features, rows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([getattr(self._parent[0], member)(x) for member in self._members], -1)


class Expert(nn.Module):
    """One expert's three layers, under the names that a checkpoint has."""

    def __init__(self, names: tuple[str, str, str], hidden: int, size: int, activation, **settings):
        super().__init__()
        self._names, self._activation = names, activation
        for name, shape in zip(names, ((hidden, size), (hidden, size), (size, hidden))):
            self.add_module(name, nn.Linear(*shape, bias=False, **settings))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up, down = (getattr(self, name) for name in self._names)
        return down(self._activation(gate(x)) * up(x))


class SeparateExperts(nn.ModuleList):
    """A mixture's experts with layers of their own, where transformers, from version 5 on, has one
    tensor for all of them."""

    def forward(
        self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        """hidden_states [tokens, hidden], the others [tokens, experts of a token]."""
        sums = torch.zeros_like(hidden_states)
        for number, expert in enumerate(self):
            token, place = torch.where(top_k_index == number)
            if len(token) == 0:
                continue
            y = expert(hidden_states[token]) * top_k_weights[token, place, None]
            sums.index_add_(0, token, y.to(sums.dtype))
        return sums


# Of Mixtral, whose layers transformers 5 has under another name.
MIXTRAL_NAMES = {r"\.block_sparse_moe\.": ".mlp."}


def _separate_experts(model: nn.Module) -> None:
    """Gives the experts of all blocks layers of their own, and keeps transformers from putting
    what it reads of them together again."""
    names = ("gate_proj", "up_proj", "down_proj")
    if model.config.model_type == "mixtral":
        names = ("w1", "w3", "w2")
    for path, module in list(model.named_modules()):
        if not path.endswith(".experts") or not hasattr(module, "gate_up_proj"):
            continue
        weight = module.down_proj  # [experts, hidden, size]
        settings = dict(device=weight.device, dtype=weight.dtype)
        experts = [
            Expert(names, *weight.shape[1:], module.act_fn, **settings) for _ in range(len(weight))
        ]
        model.set_submodule(path, SeparateExperts(experts))
    # What transformers knows of a model's names on the disk it knows by the class.
    inner = model.base_model
    own = {"__module__": __name__, "__qualname__": type(inner).__qualname__}
    inner.__class__ = type(type(inner).__name__, (type(inner),), own)


def _is_expert(layer: LayerEntry) -> bool:
    return ".experts." in layer.name


def _has_renamed_experts(config) -> bool:
    """Whether compressed experts have another name in transformers than in the checkpoint."""
    return (
        int(transformers.__version__.split(".")[0]) >= 5
        and config.model_type == "mixtral"
        and any(_is_expert(layer) for layer in compressed_layers(config))
    )


def _in_transformers(config, name: str) -> str:
    if _has_renamed_experts(config):
        return name.replace(".block_sparse_moe.", ".mlp.")
    return name


def _split_fused(model: nn.Module, member: str) -> None:
    """Where the architecture has one layer in the place of `member` and others: makes it them."""
    parent_name, _, leaf = member.rpartition(".")
    parent = model.get_submodule(parent_name)
    if hasattr(parent, leaf):
        return
    name, members = next((n, m) for n, m in FUSED.items() if leaf in m)
    fused = getattr(parent, name)
    heads, kv_heads = model.config.num_attention_heads, model.config.num_key_value_heads
    shares = [heads, kv_heads, kv_heads] if len(members) == 3 else [1, 1]
    settings = dict(device=fused.weight.device, dtype=fused.weight.dtype)
    for own, share in zip(members, shares):
        rows = fused.out_features // sum(shares) * share
        linear = nn.Linear(fused.in_features, rows, fused.bias is not None, **settings)
        setattr(parent, own, linear)
    setattr(parent, name, StackedRows(parent, members, fused.in_features, fused.out_features))


def _replace_embedding(model: nn.Module, layer: LayerEntry, dense: nn.Embedding) -> nn.Module:
    """Puts the compressed embedding into the model, and a head that is tied to it."""
    if layer.kind != "quantized":
        raise ValueError(f"{layer.name}: expected an embedding of kind quantized, got {layer.kind}")
    shape = layer_shape(layer.kind, layer.entry, layer.name)
    if (shape.out_features, shape.in_features) != tuple(dense.weight.shape):
        raise ValueError(
            f"{layer.name}: expected {tuple(dense.weight.shape)}, "
            f"got {shape.out_features} x {shape.in_features}"
        )
    embedding = QuantizedEmbedding(shape, False, dense.weight.dtype, dense.weight.device)
    if hasattr(dense, "embed_scale"):  # Gemma's
        embedding.scale = model.config.hidden_size**0.5
    parent_name, _, leaf = layer.name.rpartition(".")
    parent = model.get_submodule(parent_name)
    setattr(parent, leaf, embedding)
    if model.config.tie_word_embeddings:
        model.lm_head = TiedHead(parent, leaf, embedding)
    return embedding


def _replace_layer(model: nn.Module, layer: LayerEntry) -> nn.Module:
    """Puts the compressed layer into the model in place of the dense ones it stands for."""
    name = _in_transformers(model.config, layer.name)
    parent_name, _, leaf = name.rpartition(".")
    parent = model.get_submodule(parent_name)
    members = tuple(_in_transformers(model.config, member) for member in layer.members)
    if isinstance(getattr(parent, leaf, None), nn.Linear):
        members = (name,)  # one layer in the architecture too
    for member in members:
        _split_fused(model, member)
    dense = [model.get_submodule(member) for member in members]
    if isinstance(dense[0], nn.Embedding):
        return _replace_embedding(model, layer, dense[0])
    shape = layer_shape(layer.kind, layer.entry, layer.name)
    expected = sum(linear.out_features for linear in dense), dense[0].in_features
    if (shape.out_features, shape.in_features) != expected:
        raise ValueError(
            f"{layer.name}: expected sites of {expected[0]} x {expected[1]}, "
            f"got {shape.out_features} x {shape.in_features}"
        )
    weight, bias = dense[0].weight, dense[0].bias is not None
    compressed = compressed_linear(layer.kind, shape, bias, weight.dtype, weight.device)
    setattr(parent, leaf, compressed)
    if members != (name,):
        members = tuple(member.rpartition(".")[2] for member in members)
        product, row = SharedProduct(), 0
        for member, linear in zip(members, dense):
            rows = range(row, row + linear.out_features)
            setattr(parent, member, SharedRows(parent, leaf, product, member, members, rows))
            row = rows.stop
    return compressed


def _prune_mlps(model: nn.Module, sizes: list[int]) -> None:
    """Gives the layers of each block's MLP the number of neurons that it has kept."""
    for block, size in zip(model.base_model.layers, sizes):
        for name, linear in block.mlp.named_children():
            if not isinstance(linear, nn.Linear):
                continue
            shape = (size, linear.out_features)
            if name != "down_proj":  # Phi's gate_up_proj is two
                shape = linear.in_features, size * (2 if name == "gate_up_proj" else 1)
            settings = dict(device=linear.weight.device, dtype=linear.weight.dtype)
            setattr(block.mlp, name, nn.Linear(*shape, linear.bias is not None, **settings))


def _has_nf4(config) -> bool:
    return any(layer.kind == "nf4" for layer in compressed_layers(config))


def _with_nf4_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors under the names that bitsandbytes gives them."""
    ends = {ours: theirs for theirs, ours in NF4_NAMES.items()}

    def stored(name: str) -> str:
        end = next((end for end in ends if name.endswith(end)), None)
        return name if end is None else name.removesuffix(end) + ends[end]

    return {stored(name): tensor for name, tensor in state.items()}


def _with_compressed_layers(family: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The family's class, which replaces its compressed layers as it is made."""

    class Compressed(family):
        def __init__(self, config, *args, **kwargs):
            super().__init__(config, *args, **kwargs)
            if sizes := mlp_sizes(config):
                _prune_mlps(self, sizes)
            layers = compressed_layers(config)
            if any(_is_expert(layer) for layer in layers):
                _separate_experts(self)
            for layer in layers:
                _replace_layer(self, layer).apply(self._init_weights)
            if isinstance(getattr(self, "lm_head", None), TiedHead):
                self._tied_weights_keys = None  # it has no weight of its own
                self.all_tied_weights_keys = {}

        def tie_weights(self, *args, **kwargs):
            if not isinstance(getattr(self, "lm_head", None), TiedHead):
                super().tie_weights(*args, **kwargs)

        @classmethod
        def from_pretrained(cls, path, *args, **kwargs):
            # Pivots are buffers and stay with the cores of a layer that is kept on disk:
            # releases before 5 would leave them without a value.
            kwargs.setdefault("offload_buffers", True)
            config = kwargs.get("config") or transformers.AutoConfig.from_pretrained(path)
            renamed = NF4_NAMES if _has_nf4(config) else {}
            if _has_renamed_experts(config):
                renamed = renamed | MIXTRAL_NAMES
            if renamed:  # known to transformers from 4.49 on
                kwargs["key_mapping"] = renamed | (kwargs.get("key_mapping") or {})
            return super().from_pretrained(path, *args, **kwargs)

        @torch.no_grad()
        def _init_weights(self, module):
            if isinstance(module, Stored):
                module.reset(getattr(self.config, "initializer_range", 0.02))
            else:
                super()._init_weights(module)

        def save_pretrained(self, save_directory, *args, **kwargs):
            if _has_nf4(self.config) and kwargs.get("state_dict") is None:
                kwargs["state_dict"] = _with_nf4_names(self.state_dict())
            super().save_pretrained(save_directory, *args, **kwargs)
            here = Path(__file__).parent
            for code in CODE:
                if (target := Path(save_directory) / code).resolve() != (here / code).resolve():
                    shutil.copyfile(here / code, target)

    # The family's name is what saving writes as the architecture.
    Compressed.__name__ = Compressed.__qualname__ = family.__name__
    return Compressed


def _class_for(config) -> type[PreTrainedModel]:
    """The class of the config's architecture, with compressed layers where it has any."""
    # Releases before 4.53 make the class of remote code that of the whole family.
    registered = getattr(AutoModelForCausalLM._model_mapping, "_extra_content", {})
    if registered.get(type(config)) is SchmidtForCausalLM:
        del registered[type(config)]
    if type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(f"expected the config of a causal language model, got {type(config)}")
    family = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    changed = compressed_layers(config) or mlp_sizes(config)
    return _with_compressed_layers(family) if changed else family


class SchmidtForCausalLM:
    """Stands in config.json's auto_map; whatever makes a model of it makes one of the
    architecture's class.

    It is no PreTrainedModel itself: as one it would have to name a single class of
    configs, and it serves those of every family.
    """

    def __new__(cls, config, *args, **kwargs):
        return _class_for(config)(config, *args, **kwargs)

    @classmethod
    def from_pretrained(cls, path, *args, **kwargs):
        config = kwargs.pop("config", None) or transformers.AutoConfig.from_pretrained(path)
        return _class_for(config).from_pretrained(path, *args, config=config, **kwargs)

    @classmethod
    def _from_config(cls, config, **kwargs):
        return _class_for(config)._from_config(config, **kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class="AutoModel"):
        """Asked for by transformers; the files are copied by save_pretrained above."""
