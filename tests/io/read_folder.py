"""`read_folder.py FOLDER TRUTH [FOLDER TRUTH ...]`: transformers reads folders that schmidt wrote.

Fails unless it finds every tensor of a folder, none beside them, and the values of
TRUTH, a safetensors file. Prints the list of configs as transformers has them.
"""

import json
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def read(folder: str, truth: str) -> dict:
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[kind], (folder, kind, info[kind])
    state = model.state_dict()
    for name, tensor in load_file(truth).items():
        assert torch.equal(state[name], tensor.to(state[name].dtype)), (folder, name)
    assert torch.isfinite(model(torch.tensor([[1, 2, 3]])).logits).all(), folder
    return model.config.to_dict()


pairs = zip(sys.argv[1::2], sys.argv[2::2], strict=True)
print(json.dumps([read(folder, truth) for folder, truth in pairs]))
