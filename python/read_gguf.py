"""What the gguf package reads of a file that schmidt wrote.

usage: read_gguf.py FILE OUT
OUT.safetensors has every tensor decoded, OUT.json the metadata and the type of every tensor.
"""

import json
import sys

import gguf
import torch
from safetensors.torch import save_file


def main() -> None:
    path, out = sys.argv[1:]
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


if __name__ == "__main__":
    main()
