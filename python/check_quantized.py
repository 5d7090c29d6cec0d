"""Checks the loader for transformers on a checkpoint whose layers and tied embedding are
integers of few bits.

usage: check_quantized.py FOLDER SCRATCH
SCRATCH is an empty folder. Fails with an assertion.
"""

import copy
import sys
from pathlib import Path

import accelerate
import torch
from check_huggingface import IDS, check_generation, check_training, load
from transformers import AutoConfig, AutoModelForCausalLM


def check_saving(folder: Path, scratch: Path) -> None:
    model = load(folder)
    logits = model(IDS).logits
    assert torch.equal(copy.deepcopy(model)(IDS).logits, logits)
    names = set(model.state_dict())
    assert not any(name.startswith("lm_head") for name in names), "the head is the embedding"
    model.save_pretrained(scratch / "saved")
    again = load(scratch / "saved")
    assert set(again.state_dict()) == names
    assert torch.equal(again(IDS).logits, logits)


def check_offloading(folder: Path, scratch: Path) -> None:
    logits = load(folder)(IDS).logits
    cpu = torch.device("cpu")
    for name, model in {
        "cpu_offload": accelerate.cpu_offload(load(folder), cpu, offload_buffers=True),
        "disk_offload": accelerate.disk_offload(load(folder), scratch / "disk", cpu, True),
    }.items():
        with torch.no_grad():
            assert torch.equal(model(IDS).logits, logits), name


def check_from_config(folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_config(config, trust_remote_code=True)
    for name in config.compression_config["layers"]:
        std = model.get_submodule(name).weight_dense().std()
        assert 0.3 < std / config.initializer_range < 3, f"{name}: {std}"
    assert model(IDS).logits.isfinite().all()


def main() -> None:
    folder, scratch = map(Path, sys.argv[1:])
    torch.manual_seed(0)
    check_saving(folder, scratch)
    check_generation(load(folder))
    check_training(folder, rate=1e-6)
    check_offloading(folder, scratch)
    check_from_config(folder)


if __name__ == "__main__":
    main()
