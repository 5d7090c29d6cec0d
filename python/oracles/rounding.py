"""Truths for weights in few bits: what bitsandbytes and compressed-tensors make of the same
numbers, and checkpoints that transformers with bitsandbytes has written."""

import json
from pathlib import Path

import bitsandbytes.functional as bnb
import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

IDS = torch.tensor([[5, 9, 200, 7, 31, 77]])
GROUP = 32


def make(out: Path) -> None:
    torch.manual_seed(7)
    save_file({"map": bnb.create_dynamic_map(), "levels": bnb.get_4bit_type("nf4", "cpu")}, out / "maps.safetensors")
    make_nf4(out)
    make_dynamic(out)
    make_int8(out)
    make_packed(out)
    make_checkpoints(out)


def hard_weights() -> dict[str, torch.Tensor]:
    """Sizes that blocks do not divide, blocks of zeros, ties, outliers, tiny numbers."""
    weights = {f"{m}x{n}": torch.randn(m, n) * 0.02 for m, n in
               ((1, 1), (1, 63), (3, 21), (5, 77), (7, 64), (24, 36), (48, 48), (33, 129), (300, 576))}
    zeros = torch.randn(6, 128)
    zeros[1:3] = 0
    weights["blocks of zeros"] = zeros
    weights["all zeros"] = torch.zeros(4, 64)
    weights["one magnitude"] = torch.full((4, 128), 0.5)
    levels = bnb.get_4bit_type("nf4", "cpu")
    weights["ties"] = torch.cat([(levels[:-1] + levels[1:]) / 2, levels, levels, levels, levels[:1]])[None]
    weights["outliers"] = torch.randn(40, 100) ** 7
    weights["tiny"] = torch.randn(9, 70) * 1e-30
    weights["bfloat16"] = (torch.randn(20, 96) * 0.1).bfloat16().float()
    return weights


def make_nf4(out: Path) -> None:
    """NAME.weight and for plain and double quantization what stands in a file, and the result."""
    tensors = {}
    for name, weight in hard_weights().items():
        tensors[f"{name}.weight"] = weight
        for kind, compress in (("plain", False), ("double", True)):
            codes, state = bnb.quantize_4bit(weight, quant_type="nf4", compress_statistics=compress)
            stored = {"codes": codes, "absmax": state.absmax}
            if compress:
                stored |= {"nested": state.state2.absmax, "offset": state.offset[None]}
            stored["decoded"] = unpacked(codes, state)
            for part, tensor in stored.items():
                tensors[f"{name}.{kind}.{part}"] = tensor.contiguous()
    save_file(tensors, out / "nf4.safetensors")


def unpacked(codes: torch.Tensor, state: bnb.QuantState) -> torch.Tensor:
    """As one row: on processors with AVX-512 bitsandbytes 0.50 takes the magnitudes of other blocks
    where blocks run on over the ends of rows of a multiple of 16 numbers."""
    shape = state.shape
    state.shape = torch.Size((1, shape.numel()))
    weight = bnb.dequantize_4bit(codes, state).view(shape)
    state.shape = shape
    return weight


def make_dynamic(out: Path) -> None:
    """Codes of the dynamic map of many numbers, those between two levels among them."""
    levels = bnb.create_dynamic_map()
    middles = (levels[:-1] + levels[1:]) / 2
    near = torch.cat([middles * (1 + shift) for shift in (-1e-6, 0, 1e-6)])
    values = torch.cat([torch.randn(5000), torch.rand(5000) * 2 - 1, near, torch.zeros(300)])
    codes, state = bnb.quantize_blockwise(values, blocksize=256)
    save_file({"values": values, "codes": codes, "absmax": state.absmax}, out / "dynamic.safetensors")


def make_int8(out: Path) -> None:
    """Row-wise codes of LLM.int8()."""
    weight = torch.randn(37, 96).half()
    weight[3] = 0
    codes, scales, _ = bnb.int8_vectorwise_quant(weight.clone())
    save_file({"weight": weight.float(), "codes": codes, "scales": scales}, out / "int8.safetensors")


def make_packed(out: Path) -> None:
    """Integers of compressed-tensors: scales, zero points, packed codes and the numbers they give."""
    weight = torch.randn(24, 96) * 0.05
    weight[2, :GROUP] = 0
    weight[3] = weight[3].abs()
    tensors = {"weight": weight}
    groups = weight.view(24, -1, GROUP)
    for bits in (8, 4, 3, 2):
        for symmetric in (True, False):
            args = QuantizationArgs(
                num_bits=bits, type="int", symmetric=symmetric, strategy="group", group_size=GROUP
            )
            scales, zeros = calculate_qparams(groups.amin(-1), groups.amax(-1), args)
            codes = quantize(weight, scales, zeros, args, dtype=torch.int8)
            name = f"int{bits}.{'symmetric' if symmetric else 'asymmetric'}"
            parts = {"scales": scales, "packed": pack_to_int32(codes, bits)}
            if not symmetric:
                parts["zeros"] = pack_to_int32(zeros.to(torch.int8), bits, packed_dim=0)
            parts["decoded"] = dequantize(codes, scales, zeros, args, dtype=torch.float32)
            for part, tensor in parts.items():
                tensors[f"{name}.{part}"] = tensor.contiguous()
    save_file(tensors, out / "packed.safetensors")


def make_checkpoints(out: Path) -> None:
    """Folders of a tiny model in NF4 with double quantization and without, in FP4 and in LLM.int8();
    beside the first two, logits and unpacked weights in float32."""
    config = LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=264, tie_word_embeddings=True, max_position_embeddings=128,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(out / "dense")
    four = {"load_in_4bit": True, "bnb_4bit_compute_dtype": torch.float32}
    formats = {
        "nf4_double": BitsAndBytesConfig(
            **four, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
        ),
        "nf4_plain": BitsAndBytesConfig(**four, bnb_4bit_quant_type="nf4"),
        "fp4": BitsAndBytesConfig(**four, bnb_4bit_quant_type="fp4"),
        "int8": BitsAndBytesConfig(load_in_8bit=True),
    }
    for name, quantization in formats.items():
        model = AutoModelForCausalLM.from_pretrained(
            out / "dense", quantization_config=quantization, dtype=torch.float32, device_map="cpu"
        )
        model.save_pretrained(out / name)
        if name.startswith("nf4"):
            save_file(computed(model, IDS), out / f"{name}.safetensors")
    state = json.loads((out / "nf4_double" / "config.json").read_text())["quantization_config"]
    assert state["bnb_4bit_use_double_quant"]


def computed(model, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """`logits` [t, vocab], and the weights of all layers in NF4 unpacked."""
    weights = {
        name + ".weight": unpacked(module.weight.data, module.weight.quant_state)
        for name, module in model.named_modules()
        if hasattr(module, "quant_state")
    }
    assert weights, "expected layers in NF4"
    # With a gradient asked for: products without one round to bfloat16 on some processors.
    model.get_input_embeddings().weight.requires_grad_(True)
    logits = model(ids).logits[0].detach()
    return {"logits": logits.contiguous()} | {n: w.contiguous() for n, w in weights.items()}
