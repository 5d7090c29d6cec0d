"""Truths for src/schmidt/io: files written and read by safetensors, gguf and transformers."""

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

ROOT = Path(__file__).resolve().parents[2]

# Where the float16 scales lie in a block, in bytes. Random bits there may be no numbers.
BLOCK_SCALES = {
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
}

HIDDEN, HEADS, KV_HEADS, MLP, LAYERS, VOCAB, CONTEXT = 48, 4, 2, 64, 2, 40, 256


def make(out: Path) -> None:
    torch.manual_seed(0)
    make_safetensors(out)
    make_blocks(out)
    make_metadata(out)
    make_families(out)
    make_llama3_factors(out)
    make_smollm2(out)


def make_safetensors(out: Path) -> None:
    """Every dtype, sizes that do not align, names that need escapes."""
    dtypes = [
        "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8",
        "bool", "uint16", "uint32", "uint64", "float8_e5m2", "float8_e4m3fn", "float8_e8m0fnu",
        "complex64",
    ]  # fmt: skip
    tensors = {}
    for name in dtypes:
        dtype = getattr(torch, name)
        if dtype is torch.bool:
            tensors[name] = torch.tensor([[True, False, True]])
        else:
            width = torch.empty(0, dtype=dtype).element_size()
            tensors[name] = torch.randint(1, 60, (5, 3 * width), dtype=torch.uint8).view(dtype)
    tensors["scalar"] = torch.tensor(-1.5)
    tensors["empty"] = torch.zeros(0, 7)
    tensors['a "quoted" name: é\t'] = torch.arange(4, dtype=torch.int16)
    save_file(tensors, out / "all_dtypes.safetensors", metadata={"format": "pt"})
    save_file({}, out / "nothing.safetensors")


def random_blocks(name: str, blocks: int, rng: np.random.Generator) -> np.ndarray:
    size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]][1]
    data = rng.integers(0, 256, (blocks, size), dtype=np.uint8)
    for at in BLOCK_SCALES[name]:
        scales = rng.normal(size=blocks).astype(np.float16)
        data[:, at : at + 2] = scales.view(np.uint8).reshape(blocks, 2)
    return data


def make_blocks(out: Path) -> None:
    """formats.gguf holds a [3, 512] tensor in each format, formats.safetensors its values."""
    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(out / "formats.gguf", "none")
    values = {}
    for name in BLOCK_SCALES:
        kind = gguf.GGMLQuantizationType[name]
        data = random_blocks(name, 3 * 512 // gguf.GGML_QUANT_SIZES[kind][0], rng).reshape(3, -1)
        writer.add_tensor(name, data, raw_dtype=kind)
        values[name] = torch.from_numpy(gguf.dequantize(data, kind).copy())
    plain = torch.randn(3, 5)
    writer.add_tensor("F32", plain.numpy())
    writer.add_tensor("F16", plain.half().numpy())
    bfloat16 = plain.bfloat16().view(torch.uint8).numpy()
    writer.add_tensor("BF16", bfloat16, raw_dtype=gguf.GGMLQuantizationType.BF16)
    values |= {"F32": plain, "F16": plain.half(), "BF16": plain.bfloat16()}
    close(writer)
    save_file(values, out / "formats.safetensors")


def make_metadata(out: Path) -> None:
    """Every type of value, alone and in arrays, and an alignment of its own."""
    writer = gguf.GGUFWriter(out / "metadata.gguf", "none")
    writer.add_custom_alignment(64)
    for name, value in {
        "uint8": 255, "int8": -128, "uint16": 65535, "int16": -32768, "uint32": 2**32 - 1,
        "int32": -(2**31), "float32": 0.1, "bool": True, "string": "é\n", "uint64": 2**63 - 1,
        "int64": -(2**63), "float64": 0.1,
    }.items():  # fmt: skip
        getattr(writer, f"add_{name}")(f"x.{name}", value)
    writer.add_array("x.strings", ["a", "", "ß"])
    writer.add_array("x.ints", [1, -2, 3])
    writer.add_array("x.floats", [0.5, -1.25])
    writer.add_array("x.bools", [True, False])
    writer.add_array("x.arrays", [[1, 2], [3]])
    writer.add_tensor("t", np.arange(6, dtype=np.float32).reshape(2, 3))
    close(writer)


def close(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_family(path: Path, arch: str, *, tied: bool, window: int | None = None,
                 rope_factors: np.ndarray | None = None) -> None:
    """A random model under GGUF's names, its rows as they come: reading puts them in order."""
    head_dim = HIDDEN // HEADS
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name("tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500000.0)
    writer.add_vocab_size(VOCAB)
    if arch == "llama":
        writer.add_rope_dimension_count(head_dim)
    else:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if window is not None:
        writer.add_sliding_window(window)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)

    kv = KV_HEADS * head_dim
    shapes = {"attn_norm": (HIDDEN,), "attn_q": (HIDDEN, HIDDEN), "attn_k": (kv, HIDDEN),
              "attn_v": (kv, HIDDEN), "attn_output": (HIDDEN, HIDDEN), "ffn_norm": (HIDDEN,),
              "ffn_gate": (MLP, HIDDEN), "ffn_up": (MLP, HIDDEN),
              "ffn_down": (HIDDEN, MLP)}  # fmt: skip
    if arch == "qwen3":
        shapes |= {"attn_q_norm": (head_dim,), "attn_k_norm": (head_dim,)}
    tensors = {"token_embd.weight": (VOCAB, HIDDEN), "output_norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        for part, shape in shapes.items():
            tensors[f"blk.{layer}.{part}.weight"] = shape
            if arch == "qwen2" and part in ("attn_q", "attn_k", "attn_v"):
                tensors[f"blk.{layer}.{part}.bias"] = shape[:1]
    if not tied:
        tensors["output.weight"] = (VOCAB, HIDDEN)
    for tensor, shape in tensors.items():
        writer.add_tensor(tensor, torch.randn(shape).numpy())
    if rope_factors is not None:
        writer.add_tensor("rope_freqs.weight", rope_factors)
    close(writer)


def make_families(out: Path) -> None:
    """NAME.gguf, and what transformers makes of it: tensors and config."""
    for family, arguments in {
        "llama": {"arch": "llama", "tied": True},
        "mistral": {"arch": "llama", "tied": False, "window": 32},
        "qwen2": {"arch": "qwen2", "tied": True},
        "qwen3": {"arch": "qwen3", "tied": False},
    }.items():
        folder = out / family
        folder.mkdir()
        write_family(folder / "model.gguf", **arguments)
        config, tensors = read_with_transformers(folder / "model.gguf")
        save_file(tensors, folder / "truth.safetensors")
        (folder / "truth.json").write_text(json.dumps(config))


def read_with_transformers(path: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """config.json and the tensors of a GGUF file; from_pretrained would ask for accelerate."""
    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    loaded = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=model)
    return config.to_dict(), loaded["tensors"]


def make_llama3_factors(out: Path) -> None:
    """Llama 3.1's scaling as llama.cpp's converter stores it: a divisor for each frequency."""
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip
    shape = {"hidden_size": HIDDEN, "num_attention_heads": HEADS}
    config = LlamaConfig(**shape, rope_theta=500000.0, rope_scaling=scaling)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    dim = HIDDEN // HEADS
    plain = 500000.0 ** -(torch.arange(0, dim, 2).float() / dim)
    write_family(out / "llama3.gguf", "llama", tied=True,
                 rope_factors=(plain / scaled).numpy())  # fmt: skip


def make_smollm2(out: Path) -> None:
    """Every tensor's shape and sum, and some whole tensors, as transformers has them."""
    path = ROOT / "models" / "smollm2.gguf"
    if not path.exists():
        return
    config, state = read_with_transformers(path)
    summary = {k: {"shape": list(v.shape), "sum": v.double().sum().item()} for k, v in state.items()}
    (out / "smollm2.json").write_text(json.dumps(summary))
    (out / "smollm2.config.json").write_text(json.dumps(config))
    whole = [k for k in state if k.startswith(("model.layers.0.", "model.layers.29."))]
    save_file({k: state[k].contiguous() for k in whole}, out / "smollm2.safetensors")
