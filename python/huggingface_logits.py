"""Logits of a checkpoint as transformers computes them, its remote code included.

usage: huggingface_logits.py FOLDER IDS OUT
IDS is a comma-separated row of token ids; OUT a safetensors file with `logits` [t, vocab].
"""

import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM


def main() -> None:
    folder, ids, out = sys.argv[1:]
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32)
    with torch.inference_mode():
        logits = model(torch.tensor([[int(i) for i in ids.split(",")]])).logits[0]
    save_file({"logits": logits.contiguous()}, out)


if __name__ == "__main__":
    main()
