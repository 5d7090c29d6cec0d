"""Checks the loader for transformers on a checkpoint with layers of every stored form.

usage: check_huggingface.py FOLDER SCRATCH
FOLDER holds a model whose block 0 stores q/k/v as one layer; SCRATCH is an empty folder.
Fails with an assertion.
"""

import copy
import pickle
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

IDS = torch.tensor([[5, 9, 200, 7, 31, 77]])


def load(folder: Path, dtype: torch.dtype = torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=dtype)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def parts(model):
    attention = model.model.layers[0].self_attn
    return attention, [attention.q_proj, attention.k_proj, attention.v_proj]


def expected(view, x: torch.Tensor) -> torch.Tensor:
    """What a member gives by the matrix that it stands for."""
    attention = view._parent[0]
    bias = attention.qkv_proj.bias[view._rows.start : view._rows.stop]
    return x @ view.weight_dense().T + bias


def check_one_product_for_an_input(model) -> None:
    attention, _ = parts(model)
    calls = []
    handle = attention.qkv_proj.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        model(IDS)
    assert len(calls) == 1, f"without gradients: {len(calls)} products"
    model(IDS).logits.sum().backward()
    assert len(calls) == 2, f"with gradients: {len(calls) - 1} products"
    assert attention.q_proj._shared_product._kept is None, "the product outlives the forward pass"
    with torch.inference_mode():
        model(IDS)
    handle.remove()
    model.zero_grad()


def check_nothing_stale(model) -> None:
    attention, views = parts(model)
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            x = torch.randn(3, 24)
            for view in (*views, *reversed(views), views[0], views[0]):
                assert close(view(x), expected(view, x)), f"{mode.__name__}: repeated"
            views[0](x)
            x.mul_(-2.0)
            assert close(views[1](x), expected(views[1], x)), f"{mode.__name__}: changed in place"
            views[0](x)
            x.copy_(torch.randn(3, 24))
            assert close(views[2](x), expected(views[2], x)), f"{mode.__name__}: used again"
    for _ in range(20):  # a new tensor may stand where an old one stood
        x = torch.randn(3, 24)
        views[0](x)
        del x
        x = torch.randn(3, 24)
        assert close(views[1](x), expected(views[1], x)), "another tensor at the same place"
    x = torch.randn(3, 24)
    with torch.no_grad():
        views[0](x)
    assert views[1](x).requires_grad, "a product without gradients taken for one with them"
    x = torch.randn(3, 24)
    views[0](x)
    with torch.no_grad():
        attention.qkv_proj.bias.add_(1.0)
    assert close(views[1](x), expected(views[1], x)), "a product of parameters that have changed"


def check_gradients(model) -> None:
    attention, views = parts(model)
    parameters = list(attention.qkv_proj.parameters())
    x = torch.randn(4, 24, requires_grad=True)
    weights = [torch.randn(4, view.out_features) for view in views]

    def gradients(outputs):
        loss = sum((w * y.square()).sum() for w, y in zip(weights, outputs))
        return torch.autograd.grad(loss, [x, *parameters])

    ours = gradients([view(x) for view in views])
    dense = gradients([expected(view, x) for view in views])
    for a, b in zip(ours, dense):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max())), "gradients"


def check_copies(model) -> None:
    before = model(IDS).logits
    x = torch.randn(2, 24)
    parts(model)[1][0](x)  # leaves a product that waits
    for name, other in (
        ("deepcopy", copy.deepcopy(model)),
        ("pickle", pickle.loads(pickle.dumps(parts(model)[0]))),
    ):
        attention = parts(other)[0] if name == "deepcopy" else other
        assert attention.q_proj._parent[0] is attention, f"{name}: reads the original"
        with torch.no_grad():
            attention.qkv_proj.bias.add_(1.0)
    assert torch.equal(model(IDS).logits, before)


def check_generation(model) -> None:
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    with_cache = model.generate(IDS, use_cache=True, **settings)
    without = model.generate(IDS, use_cache=False, **settings)
    assert torch.equal(with_cache, without), "decoding with and without a cache"
    assert with_cache.shape[1] == IDS.shape[1] + 8


def check_saving(folder: Path, scratch: Path) -> None:
    original = load(folder)
    names = set(original.state_dict())
    logits = original(IDS).logits
    for name in ("once", "twice"):
        original.save_pretrained(scratch / name)
        original = load(scratch / name)
        assert set(original.state_dict()) == names
        assert torch.equal(original(IDS).logits, logits), f"saved {name}"


def check_dtype(folder: Path) -> None:
    model = load(folder, torch.bfloat16)
    exact = load(folder)
    pivots = dict(model.named_buffers())
    pivots = {name: b for name, b in pivots.items() if ".pivots." in name}
    assert pivots and all(b.dtype == torch.int32 for b in pivots.values())
    assert all(torch.equal(b, exact.get_buffer(name)) for name, b in pivots.items())
    assert all(p.dtype == torch.bfloat16 for p in model.parameters())
    error = (model(IDS).logits.float() - exact(IDS).logits).abs().max()
    assert error < 0.1, error


def main() -> None:
    folder, scratch = map(Path, sys.argv[1:])
    torch.manual_seed(0)
    check_one_product_for_an_input(load(folder))
    check_nothing_stale(load(folder))
    check_gradients(load(folder))
    check_copies(load(folder))
    check_generation(load(folder))
    check_saving(folder, scratch)
    check_dtype(folder)


if __name__ == "__main__":
    main()
