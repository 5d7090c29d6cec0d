"""GGUF files of every family of models in llama.cpp, beside transformers.

    python gguf_families.py -o WORK [--schmidt PROGRAM] [--types f32,q8_0] [--json OUT.json]

Run it by a Python that has transformers and llama-cpp-python. Tiny models with random weights are
made of each family and exported; printed is the largest difference between the log-probabilities
of 48 tokens in llama.cpp, which reads the GGUF file, and in transformers, which reads the folder.
llama.cpp's cache of keys and values is in float32 here.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench"))

import torch  # noqa: E402
import transformers as tf  # noqa: E402
from interop import LlamaCpp, Schmidt  # noqa: E402
from oracles.model import random_model  # noqa: E402
from random_model import write_tokenizer  # noqa: E402

SIZES = dict(vocab_size=256, hidden_size=128, intermediate_size=192, num_hidden_layers=3,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
             initializer_range=0.15, bos_token_id=1, eos_token_id=2, pad_token_id=None)
EXPERTS = dict(num_experts=6, num_experts_per_tok=3, moe_intermediate_size=64)
GEMMA = dict(SIZES, head_dim=64, query_pre_attn_scalar=64, sliding_window=16)

FAMILIES = {
    "llama": tf.LlamaConfig(**SIZES),
    "mistral": tf.MistralConfig(**SIZES, sliding_window=None),
    "qwen2": tf.Qwen2Config(**SIZES),
    "qwen3": tf.Qwen3Config(**SIZES, head_dim=64),
    "granite": tf.GraniteConfig(**SIZES, embedding_multiplier=6.0, attention_multiplier=0.2,
                                residual_multiplier=0.5, logits_scaling=3.0),
    "olmo2": tf.Olmo2Config(**SIZES),
    "phi3": tf.Phi3Config(**SIZES, sliding_window=None),
    "phi3, longrope": tf.Phi3Config(
        **SIZES, sliding_window=None, original_max_position_embeddings=32,
        rope_parameters=dict(rope_type="longrope", rope_theta=500.0, partial_rotary_factor=0.75,
                             short_factor=[1.0 + 0.1 * i for i in range(12)],
                             long_factor=[2.0 + 0.2 * i for i in range(12)])),
    "gemma2": tf.Gemma2Config(**GEMMA, attn_logit_softcapping=2.0, final_logit_softcapping=4.0),
    "gemma3": tf.Gemma3TextConfig(
        **GEMMA, sliding_window_pattern=2,
        rope_parameters=dict(
            full_attention=dict(rope_type="linear", rope_theta=1000.0, factor=4.0),
            sliding_attention=dict(rope_type="default", rope_theta=100.0))),
    "mixtral": tf.MixtralConfig(**SIZES, num_local_experts=5, num_experts_per_tok=2),
    "qwen2_moe": tf.Qwen2MoeConfig(**SIZES, **EXPERTS, shared_expert_intermediate_size=64),
    "qwen3_moe": tf.Qwen3MoeConfig(**SIZES, **EXPERTS, head_dim=64, norm_topk_prob=True),
}


def make(config, folder: Path) -> None:
    random_model(config, 7).save_pretrained(folder)
    write_tokenizer(folder)


def by_transformers(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    model = tf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                    attn_implementation="eager").eval()
    with torch.inference_mode():
        return model(ids[None]).logits[0].double().log_softmax(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--schmidt", type=Path, default=ROOT / "build/release/bin/schmidt")
    parser.add_argument("--types", default="f32")
    parser.add_argument("--json", type=Path, help="the differences in a file too")
    parser.add_argument("--families", default=",".join(FAMILIES).replace(", ", " "))
    options = parser.parse_args()
    schmidt = Schmidt(options.schmidt)
    ids = torch.randint(256, (48,), generator=torch.Generator().manual_seed(1))
    types = options.types.split(",")
    differences: dict[str, dict[str, float]] = {}
    print(f"| family | {' | '.join(types)} |\n|---{'|---' * len(types)}|", flush=True)
    for name, config in FAMILIES.items():
        if name.replace(", ", " ") not in options.families.split(","):
            continue
        # llama.cpp expects Phi's own tokens in a model that is named so.
        folder = options.out / name.replace(", ", "-").replace("phi3", "phi")
        make(config, folder)
        truth = by_transformers(folder, ids)
        cells = []
        for kind in types:
            file = options.out / f"{folder.name}-{kind}.gguf"
            try:
                schmidt.export(folder, "gguf", file, "--type", kind, "--force")
                model = LlamaCpp(file, exact_cache=True)
                found = model.logits(ids.tolist()).double().log_softmax(-1)
                model.close()
                difference = (found - truth).abs().max().item()
                differences.setdefault(name, {})[kind] = difference
                cells.append(f"{difference:.2g}")
            except RuntimeError as e:
                print(f"{name}, {kind}: {str(e).splitlines()[0]}", file=sys.stderr)
                cells.append("-")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(differences, indent=1) + "\n")


if __name__ == "__main__":
    main()
