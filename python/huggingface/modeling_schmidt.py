"""Opens a checkpoint compressed by schmidt in transformers:

    AutoModelForCausalLM.from_pretrained(DIR, trust_remote_code=True)

The architecture's own class does everything but the compressed layers, which
become Matrix Product Operators.
"""

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from .configuration_schmidt import MpoShape, compressed_layers


class MpoLinear(nn.Module):
    """y = x W^T + bias, W given by its cores [r_{k-1}, m_k, n_k, r_k]."""

    def __init__(self, shape: MpoShape, bias: bool, dtype: torch.dtype, device: torch.device):
        super().__init__()
        self.in_features, self.out_features = shape.in_features, shape.out_features
        self.cores = nn.ParameterList(
            nn.Parameter(torch.empty(core, dtype=dtype, device=device))
            for core in shape.core_shapes()
        )
        self.bias = (
            nn.Parameter(torch.empty(self.out_features, dtype=dtype, device=device)) if bias else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Left to right; the state is [rows, outputs so far, bond, inputs to come].
        state = x.reshape(-1, 1, 1, self.in_features)
        for core in self.cores:
            left, out_dim, in_dim, right = core.shape
            rows, done = state.shape[:2]
            state = state.reshape(rows, done, left, in_dim, -1)
            state = torch.einsum("zdlit,loir->zdort", state, core)
            state = state.reshape(rows, done * out_dim, right, -1)
        y = state.reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias

    def weight_dense(self) -> torch.Tensor:
        """W [m, n]: for inspection and export."""
        identity = torch.eye(
            self.in_features, dtype=self.cores[0].dtype, device=self.cores[0].device
        )
        bias, self.bias = self.bias, None
        try:
            return self.forward(identity).T
        finally:
            self.bias = bias


def _with_mpo_layers(family: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The family's class, which replaces its compressed layers as it is made."""

    class Compressed(family):
        def __init__(self, config, *args, **kwargs):
            super().__init__(config, *args, **kwargs)
            for name, shape in compressed_layers(config).items():
                dense = self.get_submodule(name)
                mpo = MpoLinear(
                    shape, dense.bias is not None, dense.weight.dtype, dense.weight.device
                )
                parent, _, leaf = name.rpartition(".")
                setattr(self.get_submodule(parent), leaf, mpo)

        @torch.no_grad()
        def _init_weights(self, module):
            if not isinstance(module, (MpoLinear, nn.ParameterList)):
                super()._init_weights(module)

    Compressed.__name__ = Compressed.__qualname__ = f"Schmidt{family.__name__}"
    return Compressed


class SchmidtForCausalLM(PreTrainedModel):
    """Stands in config.json's auto_map; becomes the architecture's class on loading."""

    @classmethod
    def from_pretrained(cls, path, *args, **kwargs):
        config = kwargs.get("config") or transformers.AutoConfig.from_pretrained(path)
        family = getattr(transformers, config.architectures[0])
        return _with_mpo_layers(family).from_pretrained(path, *args, **kwargs)
