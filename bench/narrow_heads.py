"""What narrower value heads would cost: a model that computes as if it had them.

usage: narrow_heads.py MODEL STATISTICS --width 48 -o OUT

MODEL is a dense Hugging Face folder of the Llama family with one safetensors file, STATISTICS what
`schmidt compress --statistics` keeps of it. For each key-value head the values' space is cut to the
directions in which the products of the output projections with it lose the least, in the norm of
both moments: v and o factorized together, as modules of type III in MoDeGPT (Lin et al. 2024,
arXiv:2408.09632). OUT keeps the size of MODEL, with output projections that read nothing else, so
that `schmidt eval OUT --reference MODEL` says what such heads lose.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def symmetric(triangle: torch.Tensor) -> torch.Tensor:
    """The matrix whose upper triangle stands row by row in a vector."""
    n = int(((8 * triangle.numel() + 1) ** 0.5 - 1) / 2)
    matrix = torch.zeros(n, n, dtype=torch.float64)
    row, column = torch.triu_indices(n, n)
    matrix[row, column] = triangle.double()
    return matrix + matrix.triu(1).T


def projector(a: torch.Tensor, b: torch.Tensor, rank: int) -> torch.Tensor:
    """P of that rank with the least tr((1 - P)^T B (1 - P) A); A, B [d, d] positive."""
    a = a + 1e-6 * a.diagonal().mean() * torch.eye(len(a), dtype=a.dtype)
    values, vectors = torch.linalg.eigh(a)
    root = vectors * values.sqrt()
    _, u = torch.linalg.eigh(root.T @ b @ root)
    u = u[:, -rank:]
    return root @ u @ u.T @ (vectors / values.sqrt()).T


def dropped(
    block: dict[str, torch.Tensor], name: str, config: dict, width: int
) -> tuple[torch.Tensor, float]:
    """1 - P of all heads [inputs of o, inputs of o], and what it is predicted to lose, in nats."""
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    d = config.get("head_dim") or config["hidden_size"] // heads
    b, g = symmetric(block[f"{name}.gradient"]), symmetric(block["out.inputs"])
    rest = torch.eye(heads * d, dtype=torch.float64)
    for group in range(groups):
        of_group = range(group * heads // groups, (group + 1) * heads // groups)
        places = [slice(h * d, (h + 1) * d) for h in of_group]
        p = projector(sum(g[s, s] for s in places), sum(b[s, s] for s in places), width)
        for s in places:
            rest[s, s] -= p
    return rest, 0.5 * torch.trace(rest.T @ b @ rest @ g).item()


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("statistics", type=Path)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    config = json.loads((options.model / "config.json").read_text())
    tensors = load_file(options.model / "model.safetensors")
    loss = 0.0
    for index in range(config["num_hidden_layers"]):
        name = f"model.layers.{index}.self_attn.o_proj"
        block = load_file(options.statistics / f"block.{index}.safetensors")
        rest, of_block = dropped(block, name, config, options.width)
        w = tensors[f"{name}.weight"]
        tensors[f"{name}.weight"] = (w.double() - w.double() @ rest).to(w.dtype).contiguous()
        loss += of_block
    shutil.copytree(options.model, options.out)
    save_file(tensors, options.out / "model.safetensors", metadata={"format": "pt"})
    print(f"heads of {options.width}: predicted to lose {loss:.4f} nats a token")


if __name__ == "__main__":
    main()
