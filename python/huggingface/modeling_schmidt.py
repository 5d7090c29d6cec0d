"""Opens a checkpoint compressed by schmidt in transformers:

    AutoModelForCausalLM.from_pretrained(DIR, trust_remote_code=True)

The architecture's own class does everything but the compressed layers, which
become Matrix Product Operators.
"""

import shutil
from math import prod
from pathlib import Path

import torch
import transformers
from torch import nn
from torch.nn import functional
from torch.utils.weak import TensorWeakRef
from transformers import PreTrainedModel

from .configuration_schmidt import LayerForm, MpoShape, compressed_layers


class Pivots(nn.Module):
    """For each bond, the rows of its left core that are the identity: int32 [r], ascending."""

    def __init__(self, bonds: tuple[int, ...], device: torch.device):
        super().__init__()
        for k, bond in enumerate(bonds):
            self.register_buffer(str(k), torch.zeros(bond, dtype=torch.int32, device=device))

    def places(self, k: int, rows: int) -> torch.Tensor:
        """int64 [rows]: where row i is found in the pivots' rows followed by the others'."""
        pivots = self.get_buffer(str(k)).long()
        is_pivot = torch.zeros(rows, dtype=torch.int64, device=pivots.device)
        is_pivot = is_pivot.index_fill(0, pivots, 1)
        before = is_pivot.cumsum(0) - is_pivot
        others = len(pivots) + torch.arange(rows, device=pivots.device) - before
        return torch.where(is_pivot.bool(), before, others)


def _sweep_from_left(cores: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    # The state is [rows, outputs so far, bond, inputs to come].
    state = x.reshape(x.shape[0], 1, 1, -1)
    for core in cores:
        left, out_dim, in_dim, right = core.shape
        rows, done = state.shape[:2]
        state = state.reshape(rows, done, left, in_dim, -1)
        state = torch.einsum("zdlit,loir->zdort", state, core)
        state = state.reshape(rows, done * out_dim, right, -1)
    return state.flatten(1)


def _sweep_from_right(cores: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    # The state is [rows, inputs to come, bond, outputs so far].
    state = x.reshape(x.shape[0], -1, 1, 1)
    for core in reversed(cores):
        left, out_dim, in_dim, right = core.shape
        rows, done = state.shape[0], state.shape[3]
        state = state.reshape(rows, -1, in_dim, right, done)
        state = torch.einsum("ztird,loir->ztlod", state, core)
        state = state.reshape(rows, -1, left, out_dim * done)
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


class MpoLinear(nn.Module):
    """y = x W^T + bias, W [m, n] given by its cores."""

    def __init__(self, shape: MpoShape, bias: bool, dtype: torch.dtype, device: torch.device):
        super().__init__()
        self.shape = shape
        self.in_features, self.out_features = shape.in_features, shape.out_features
        self.cores = nn.ParameterList(
            nn.Parameter(torch.empty(core, dtype=dtype, device=device))
            for core in shape.stored_shapes()
        )
        self.pivots = Pivots(shape.bonds, device) if shape.gauge_fixed else None
        self.bias = (
            nn.Parameter(torch.empty(self.out_features, dtype=dtype, device=device)) if bias else None
        )
        from_left = _sweep_cost(shape, from_left=True) < _sweep_cost(shape, from_left=False)
        self._sweep = _sweep_from_left if from_left else _sweep_from_right

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self._product(x.reshape(-1, self.in_features))
        y = y.reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias

    def weight_dense(self) -> torch.Tensor:
        """W [m, n]: for inspection and export."""
        core = self.cores[0]
        return self._product(torch.eye(self.in_features, dtype=core.dtype, device=core.device)).T

    def full_cores(self) -> list[torch.Tensor]:
        """The cores [r_{k-1}, m_k, n_k, r_k], the identity rows in their places."""
        if self.pivots is None:
            return list(self.cores)
        cores = []
        for k, core in enumerate(self.shape.core_shapes()[:-1]):
            others, rows = self.cores[k], prod(core[:3])
            identity = torch.eye(core[3], dtype=others.dtype, device=others.device)
            stacked = torch.cat([identity, others])
            cores.append(stacked[self.pivots.places(k, rows)].reshape(core))
        return [*cores, self.cores[-1]]

    def _product(self, x: torch.Tensor) -> torch.Tensor:
        """x [rows, n] -> x W^T [rows, m]."""
        shape = self.shape
        low_rank = len(shape.bonds) == 1 and shape.in_dims[0] == shape.out_dims[1] == 1
        if self.pivots is None or not low_rank:
            return self._sweep(self.full_cores(), x)
        # The pivots' outputs come from x, all others from those.
        others, last = self.cores
        chosen = functional.linear(x, last.flatten(1))
        outputs = torch.cat([chosen, functional.linear(chosen, others)], dim=-1)
        return outputs.index_select(-1, self.pivots.places(0, self.out_features))


class SumLinear(nn.Module):
    """y = x (W_0 + W_1 + ..)^T + bias."""

    def __init__(
        self, terms: tuple[MpoShape, ...], bias: bool, dtype: torch.dtype, device: torch.device
    ):
        super().__init__()
        self.in_features, self.out_features = terms[0].in_features, terms[0].out_features
        self.terms = nn.ModuleList(MpoLinear(term, False, dtype, device) for term in terms)
        self.bias = (
            nn.Parameter(torch.empty(self.out_features, dtype=dtype, device=device)) if bias else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = sum(term(x) for term in self.terms)
        return y if self.bias is None else y + self.bias

    def weight_dense(self) -> torch.Tensor:
        """W [m, n]: for inspection and export."""
        return sum(term.weight_dense() for term in self.terms)


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


def _compressed(form: LayerForm, like: nn.Linear) -> nn.Module:
    bias, dtype, device = like.bias is not None, like.weight.dtype, like.weight.device
    if form.is_sum:
        return SumLinear(form.terms, bias, dtype, device)
    return MpoLinear(form.terms[0], bias, dtype, device)


def _replace_layer(model: nn.Module, name: str, form: LayerForm) -> None:
    """Puts the compressed layer `name` into the model in place of the dense ones it stands for."""
    dense = [model.get_submodule(member) for member in form.members]
    expected = sum(layer.out_features for layer in dense), dense[0].in_features
    if (form.out_features, form.in_features) != expected:
        raise ValueError(
            f"{name}: expected sites of {expected[0]} x {expected[1]}, "
            f"got {form.out_features} x {form.in_features}"
        )
    parent_name, _, leaf = name.rpartition(".")
    parent = model.get_submodule(parent_name)
    setattr(parent, leaf, _compressed(form, dense[0]))
    if form.members == (name,):
        return
    members = tuple(member.rpartition(".")[2] for member in form.members)
    product, row = SharedProduct(), 0
    for member, layer in zip(members, dense):
        rows = range(row, row + layer.out_features)
        setattr(parent, member, SharedRows(parent, leaf, product, member, members, rows))
        row = rows.stop


def _with_compressed_layers(family: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The family's class, which replaces its compressed layers as it is made."""

    class Compressed(family):
        def __init__(self, config, *args, **kwargs):
            super().__init__(config, *args, **kwargs)
            for name, form in compressed_layers(config).items():
                _replace_layer(self, name, form)

        @torch.no_grad()
        def _init_weights(self, module):
            if not isinstance(module, (MpoLinear, SumLinear, nn.ParameterList)):
                super()._init_weights(module)

        def save_pretrained(self, save_directory, *args, **kwargs):
            super().save_pretrained(save_directory, *args, **kwargs)
            here = Path(__file__).parent
            for code in ("configuration_schmidt.py", "modeling_schmidt.py"):
                if (target := Path(save_directory) / code).resolve() != (here / code).resolve():
                    shutil.copyfile(here / code, target)

    # The family's name is what saving writes as the architecture.
    Compressed.__name__ = Compressed.__qualname__ = family.__name__
    return Compressed


class SchmidtForCausalLM(PreTrainedModel):
    """Stands in config.json's auto_map; becomes the architecture's class on loading."""

    @classmethod
    def from_pretrained(cls, path, *args, **kwargs):
        config = kwargs.get("config") or transformers.AutoConfig.from_pretrained(path)
        family = getattr(transformers, config.architectures[0])
        return _with_compressed_layers(family).from_pretrained(path, *args, **kwargs)
