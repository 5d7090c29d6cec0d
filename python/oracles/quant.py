"""Truths for src/schmidt/quant: what the gguf package makes of numbers and of blocks."""

from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

from oracles.io import BLOCK_SCALES, random_blocks

ENCODED = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
COLUMNS = 512


def make(out: Path) -> None:
    rng = np.random.default_rng(2)
    make_encoded(out, rng)
    make_dots(out, rng)


def hard_rows(rng: np.random.Generator) -> np.ndarray:
    """[28, 512] float32: weights of many scales, and what rounding goes wrong on."""
    rows = [rng.normal(size=COLUMNS) * scale for scale in np.geomspace(1e-4, 100, 16)]
    rows += [np.zeros(COLUMNS), np.full(COLUMNS, 0.25), np.full(COLUMNS, -3.0)]
    rows += [rng.uniform(0, 1, COLUMNS), rng.uniform(-1, 0, COLUMNS)]  # of one sign
    rows += [rng.integers(-8, 9, COLUMNS) / 8, rng.integers(-16, 17, COLUMNS) / 2]  # ties
    rows += [rng.integers(-127, 128, COLUMNS) + 0.5, np.tile([1.0, -1.0], COLUMNS // 2)]
    rows += [rng.choice([0.0, 5.0], COLUMNS, p=[0.97, 0.03])]  # mostly zeros
    rows += [rng.normal(size=COLUMNS) ** 5, rng.standard_cauchy(COLUMNS)]  # outliers
    return np.stack(rows).astype(np.float32)


def as_bytes(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array).view(np.uint8).copy())


def make_encoded(out: Path, rng: np.random.Generator) -> None:
    """encoded.safetensors: `values`, and its bytes in every format that gguf encodes."""
    values = hard_rows(rng)
    tensors = {"values": torch.from_numpy(values)}
    for name in ENCODED:
        tensors[name] = as_bytes(gguf.quantize(values, gguf.GGMLQuantizationType[name]))
    save_file(tensors, out / "encoded.safetensors")


def make_dots(out: Path, rng: np.random.Generator) -> None:
    """dots.safetensors: rows of blocks, `x`, their products in float64 and the sums of |w| |x|."""
    x = rng.normal(size=COLUMNS).astype(np.float32)
    tensors = {"x": torch.from_numpy(x)}
    plain = rng.normal(size=(5, COLUMNS)).astype(np.float32)
    for name in ["F32", "F16", "BF16", *BLOCK_SCALES]:
        kind = gguf.GGMLQuantizationType[name]
        if name in BLOCK_SCALES:
            blocks = random_blocks(name, 5 * COLUMNS // gguf.GGML_QUANT_SIZES[kind][0], rng)
            blocks = blocks.reshape(5, -1)
        else:
            blocks = gguf.quantize(plain, kind)
        weights = gguf.dequantize(blocks, kind).astype(np.float64)
        tensors[f"{name}.blocks"] = as_bytes(blocks)
        tensors[f"{name}.dots"] = torch.from_numpy(weights @ x.astype(np.float64))
        tensors[f"{name}.magnitudes"] = torch.from_numpy(abs(weights) @ abs(x).astype(np.float64))
    save_file(tensors, out / "dots.safetensors")
