"""What the gguf package reads of files that schmidt wrote.

usage: read_gguf.py FILE OUT [FILE OUT ...]
OUT.safetensors has every tensor decoded, OUT.json the metadata and the type of every tensor.
"""

import json
import sys

import gguf
import torch
from safetensors.torch import save_file


def read(path: str, out: str) -> None:
    reader = gguf.GGUFReader(path)
    tensors = {}
    types = {}
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        shape = [int(size) for size in reversed(tensor.shape)]
        tensors[tensor.name] = torch.tensor(values.astype("float32")).reshape(shape)
        types[tensor.name] = tensor.tensor_type.name
    metadata = {
        name: field.contents()
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }
    save_file(tensors, out + ".safetensors")
    with open(out + ".json", "w") as file:
        json.dump({"metadata": metadata, "types": types}, file)


def main() -> None:
    for path, out in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        read(path, out)


if __name__ == "__main__":
    main()
