"""Checks the loader for transformers on a checkpoint with layers of every stored form.

usage: check_huggingface.py FOLDER SCRATCH
FOLDER holds a model whose block 0 stores q/k/v as one layer; SCRATCH is an empty folder.
Fails with an assertion.
"""

import copy
import json
import pickle
import shutil
import sys
from pathlib import Path

import accelerate
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM

IDS = torch.tensor([[5, 9, 200, 7, 31, 77]])


def load(folder: Path, dtype: torch.dtype = torch.float32, **settings):
    return AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=True, dtype=dtype, **settings
    )


def with_config(folder: Path, copied: Path, change) -> Path:
    """A copy of the folder with another config.json."""
    shutil.copytree(folder, copied)
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (copied / "config.json").write_text(json.dumps(config))
    return copied


def message(kind: type[Exception], call) -> str:
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


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


def check_offloading(folder: Path, scratch: Path) -> None:
    """Layers whose weights lie elsewhere and come only as each module is called."""
    original = load(folder)
    logits = original(IDS).logits
    blocks = {f"model.layers.{i}": "disk" for i in range(len(original.model.layers))}
    rest = {"model.embed_tokens": "cpu", "lm_head": "cpu", "model.norm": "cpu"}
    places = {**blocks, **rest, "model.rotary_emb": "cpu"}
    cpu = torch.device("cpu")
    models = {
        "device_map": load(folder, device_map=places, offload_folder=scratch / "map"),
        "cpu_offload": accelerate.cpu_offload(load(folder), cpu, offload_buffers=True),
        "disk_offload": accelerate.disk_offload(load(folder), scratch / "disk", cpu, True),
    }
    for name, model in models.items():
        stored = [p for n, p in model.named_parameters() if ".cores." in n]
        assert stored and all(p.is_meta for p in stored), f"{name}: the cores are in memory"
        for _ in range(2):
            with torch.no_grad():
                assert torch.equal(model(IDS).logits, logits), name
        weights = [m.model.layers[0].self_attn.o_proj.weight_dense() for m in (model, original)]
        assert torch.equal(*weights), f"{name}: weight_dense"
    check_generation(models["device_map"])


def check_from_config(folder: Path, scratch: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_config(config, trust_remote_code=True)
    shapes = {name: tensor.shape for name, tensor in load(folder).state_dict().items()}
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == shapes
    for name in config.compression_config["layers"]:
        std = model.get_submodule(name).weight_dense().std()
        assert 0.3 < std / config.initializer_range < 3, f"{name}: {std}"
    logits = model(IDS).logits
    assert logits.isfinite().all()
    model.save_pretrained(scratch / "fresh")
    assert close(load(scratch / "fresh")(IDS).logits, logits)


def check_training(folder: Path, rate: float) -> None:
    model = load(folder).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    before = model(IDS, labels=IDS).loss
    before.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert ".cores." not in name or parameter.grad.abs().max() > 0, name
    optimizer.step()
    assert model(IDS, labels=IDS).loss < before


def check_configs(folder: Path, scratch: Path) -> None:
    logits = load(folder)(IDS).logits
    nameless = with_config(folder, scratch / "nameless", lambda c: c.pop("architectures"))
    assert torch.equal(load(nameless)(IDS).logits, logits), "architectures absent"

    def of_another_kind(config):
        next(iter(config["compression_config"]["layers"].values()))["kind"] = "wave"

    other = with_config(folder, scratch / "kind", of_another_kind)
    text = message(ValueError, lambda: load(other))
    assert "expected a kind among mpo, sum, quantized, factored, nf4, got wave" in text, text

    def of_another_version(config):
        config["compression_config"]["version"] = 2

    other = with_config(folder, scratch / "version", of_another_version)
    assert "expected version 1, got 2" in message(ValueError, lambda: load(other))

    # Models of the family that are not compressed stay what they are.
    plain = with_config(folder, scratch / "plain", lambda c: c.pop("compression_config"))
    config = AutoConfig.from_pretrained(plain)
    for trust in (False, True):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust)
        assert type(model) is LlamaForCausalLM


def check_old_release(folder: Path, scratch: Path) -> None:
    copied = with_config(folder, scratch / "old", lambda c: None)
    transformers = sys.modules["transformers"]  # which importing parts of it has replaced
    found, transformers.__version__ = transformers.__version__, "4.45.2"
    try:
        text = message(ImportError, lambda: load(copied))
    finally:
        transformers.__version__ = found
    assert "expected transformers 4.46 or newer, got 4.45.2" in text, text


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
    check_offloading(folder, scratch)
    check_from_config(folder, scratch)
    check_training(folder, rate=1e-3)
    check_configs(folder, scratch)
    check_old_release(folder, scratch)


if __name__ == "__main__":
    main()
