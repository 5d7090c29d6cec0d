"""Logits of a base model with its adapter, as peft computes them.

usage: peft_logits.py BASE ADAPTER IDS OUT
IDS is a comma-separated row of token ids; OUT a safetensors file with `logits` [t, vocab]. Exit
code 4: this Python has no peft.
"""

import importlib.util
import sys

if importlib.util.find_spec("peft") is None:
    sys.exit(4)

import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM


def main() -> None:
    base, adapter, ids, out = sys.argv[1:]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter)
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[int(i) for i in ids.split(",")]])).logits[0]
    save_file({"logits": logits.contiguous()}, out)


if __name__ == "__main__":
    main()
