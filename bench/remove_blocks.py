"""A model without some of its blocks, to compare compressed models with at equal parameters.

usage: remove_blocks.py MODEL --keep 0.7 --text F [F ..] -o OUT [--tokens 2048] [--context 512]

MODEL is a dense Hugging Face folder that transformers can load. Blocks go one after the other,
each time the one without which the output diverges least from MODEL's (KL divergence in nats,
measured on the first --tokens tokens of each text), until no more than the share --keep of all
blocks is left. Men et al. 2024 (ShortGPT, arXiv:2403.03853) rank blocks by the cosine between what
enters and what leaves them; the divergence itself costs more and misleads less.
"""

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def log_probabilities(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """[sequences, context, vocabulary] of ids [sequences, context]."""
    with torch.inference_mode():
        logits = [model(row[None], use_cache=False).logits[0] for row in ids]
    return torch.log_softmax(torch.stack(logits).float(), dim=-1)


def divergence(model: torch.nn.Module, ids: torch.Tensor, reference: torch.Tensor) -> float:
    """KL divergence from the reference, in nats a token."""
    own = log_probabilities(model, ids)
    return torch.sum(reference.exp() * (reference - own), dim=-1).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--keep", type=float, required=True)
    parser.add_argument("--text", type=Path, nargs="+", required=True)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, torch_dtype=torch.float32).eval()
    rows = options.tokens // options.context
    ids = torch.cat([
        torch.tensor(tokenizer(text.read_text()[:16 * options.tokens], add_special_tokens=False)
                     ["input_ids"][:rows * options.context]).view(rows, options.context)
        for text in options.text
    ])
    reference = log_probabilities(model, ids)
    left = list(enumerate(model.model.layers))
    wanted = int(options.keep * len(left))
    removed = []
    while len(left) > wanted:
        found = []
        for at in range(len(left)):
            model.model.layers = torch.nn.ModuleList(b for i, (_, b) in enumerate(left) if i != at)
            found.append((divergence(model, ids, reference), at))
        kl, at = min(found)
        removed.append({"block": left.pop(at)[0], "kl": kl})
        print(f"block {removed[-1]['block']} removed: KL {kl:.4f}, {len(left)} left", flush=True)
    for index, (_, block) in enumerate(left):
        block.self_attn.layer_idx = index
    model.model.layers = torch.nn.ModuleList(block for _, block in left)
    model.config.num_hidden_layers = len(left)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:len(left)]
    model.to(torch.bfloat16).save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    (options.out / "removed_blocks.json").write_text(json.dumps(removed, indent=1) + "\n")


if __name__ == "__main__":
    main()
