"""A model of given shapes with random weights, to measure memory and time on.

usage: random_model.py CONFIG FOLDER [--blocks N] [--dtype bfloat16] [--shard-gb 5] [--seed 0]

CONFIG is a config.json; --blocks keeps only the first N. Weights are normal with
standard deviation 0.02, embeddings included, norms are ones; one shard is in memory at a time. The tokenizer is a byte-level one of 256 tokens, so that text can be read.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or hidden // heads
    q, kv = heads * head, config.get("num_key_value_heads", heads) * head
    result = {"model.embed_tokens.weight": (config["vocab_size"], hidden),
              "model.norm.weight": (hidden,)}
    if not config.get("tie_word_embeddings", False):
        result["lm_head.weight"] = (config["vocab_size"], hidden)
    for block in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{block}."
        for name, shape in {"self_attn.q_proj": (q, hidden), "self_attn.k_proj": (kv, hidden),
                            "self_attn.v_proj": (kv, hidden), "self_attn.o_proj": (hidden, q),
                            "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
                            "mlp.down_proj": (hidden, inner), "input_layernorm": (hidden,),
                            "post_attention_layernorm": (hidden,)}.items():
            result[f"{prefix}{name}.weight"] = shape
    return result


def bytes_to_unicode() -> list[str]:
    """The letters that byte-level tokenizers write bytes as (GPT-2)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(spare)) for b in range(256)]


def write_tokenizer(folder: Path) -> None:
    vocabulary = {letter: i for i, letter in enumerate(bytes_to_unicode())}
    pre = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": None, "pre_tokenizer": pre, "post_processor": None, "decoder": pre,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary, "merges": []}}))


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--blocks", type=int)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--shard-gb", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    config = json.loads(options.config.read_text())
    if options.blocks:
        config["num_hidden_layers"] = options.blocks
    config["torch_dtype"] = options.dtype
    dtype = getattr(torch, options.dtype)
    options.folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(options.seed)

    shards, sizes = [[]], [0]
    for name, shape in shapes(config).items():
        size = torch.Size(shape).numel() * dtype.itemsize
        if shards[-1] and sizes[-1] + size > options.shard_gb * 1e9:
            shards.append([])
            sizes.append(0)
        shards[-1].append((name, shape))
        sizes[-1] += size
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = {name: torch.ones(shape, dtype=dtype) if len(shape) == 1 else
                   torch.empty(shape, dtype=dtype).normal_(0, 0.02, generator=generator)
                   for name, shape in shard}
        save_file(tensors, options.folder / file, {"format": "pt"})
        weight_map.update({name: file for name in tensors})
    (options.folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": sum(sizes)}, "weight_map": weight_map}))
    (options.folder / "config.json").write_text(json.dumps(config, indent=2))
    write_tokenizer(options.folder)


if __name__ == "__main__":
    main()
