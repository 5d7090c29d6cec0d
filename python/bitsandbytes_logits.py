"""Logits and unpacked weights of a checkpoint in NF4 as transformers with bitsandbytes computes them,
without code from its folder.

usage: bitsandbytes_logits.py FOLDER IDS OUT
IDS is a comma-separated row of token ids; OUT a safetensors file with `logits` [t, vocab] and the
weights of all layers in NF4 under their names.
"""

import sys

import torch
from oracles.rounding import computed
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM


def main() -> None:
    folder, ids, out = sys.argv[1:]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, device_map="cpu")
    save_file(computed(model, torch.tensor([[int(i) for i in ids.split(",")]])), out)


if __name__ == "__main__":
    main()
