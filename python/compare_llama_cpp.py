"""Prefill and decode speed of schmidt beside llama.cpp.

    python compare_llama_cpp.py --int8 INT8 --int4 INT4 [--schmidt PROGRAM] [-p 512] [-n 128] [-r 5]

Run it by a Python that has llama-cpp-python 0.3.36, built from source for this machine:

    CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX512=ON -DGGML_AVX512_VBMI=ON -DGGML_AVX512_VNNI=ON \\
        -DGGML_AVX512_BF16=ON" pip install --no-binary llama-cpp-python llama-cpp-python==0.3.36

INT8 and INT4 are folders that `schmidt quantize` wrote. llama.cpp's formats are made of
models/smollm2.gguf by its own quantizer, into a temporary folder; a tied output layer has 6 or 8
bits there.

The two take turns (in_turns.py). Decoding follows a prompt of 16 tokens.
"""

import argparse
import ctypes
import tempfile
import time
from pathlib import Path

import llama_cpp

from in_turns import ROOT, Rates, options_of, print_head, print_rows, schmidt_rates

SMOLLM2 = ROOT / "models/smollm2.gguf"
BEFORE = 16  # tokens before those that are decoded
TYPES = {
    "F32": llama_cpp.LLAMA_FTYPE_ALL_F32,
    "BF16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
    "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
}


def converted(name: str, folder: Path) -> Path:
    """SmolLM2 in one of llama.cpp's formats."""
    path = folder / f"{name}.gguf"
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = TYPES[name]
    params.allow_requantize = True
    failed = llama_cpp.llama_model_quantize(
        str(SMOLLM2).encode(), str(path).encode(), ctypes.byref(params)
    )
    if failed:
        raise SystemExit(f"llama.cpp did not write {name}")
    return path


class Theirs:
    """A model in llama.cpp."""

    def __init__(self, path: Path, options: argparse.Namespace):
        self.model = llama_cpp.llama_model_load_from_file(
            str(path).encode(), llama_cpp.llama_model_default_params()
        )
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = max(options.prompt, BEFORE + options.generate) + 8
        params.n_batch = params.n_ubatch = max(options.prompt, BEFORE)
        params.n_threads = params.n_threads_batch = options.threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.options = options

    def read(self, ids: list[int]) -> None:
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        batch = llama_cpp.llama_batch_get_one(tokens, len(ids))
        if llama_cpp.llama_decode(self.context, batch):
            raise SystemExit("llama.cpp failed to decode")
        llama_cpp.llama_get_logits_ith(self.context, -1)

    def forget(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def close(self) -> None:
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)

    def rates(self) -> Rates:
        prompt, generate = self.options.prompt, self.options.generate
        self.forget()
        start = time.perf_counter()
        self.read(list(range(prompt)))
        prefill = time.perf_counter() - start
        self.forget()
        self.read(list(range(BEFORE)))
        start = time.perf_counter()
        for token in range(generate):
            self.read([token])
        decode = time.perf_counter() - start
        return {"prefill": prompt / prefill, "decode": generate / decode}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--int8", type=Path, required=True)
    parser.add_argument("--int4", type=Path, required=True)
    options = options_of(parser, generate=128)

    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, None)
    rows = [
        ("F32", SMOLLM2, "float32"),
        ("BF16", SMOLLM2, "bfloat16"),
        ("Q8_0", options.int8, "bfloat16"),
        ("Q4_0", options.int4, "bfloat16"),
    ]
    print_head("llama.cpp", "schmidt", theirs="llama.cpp")
    with tempfile.TemporaryDirectory() as folder:
        for name, model, dtype in rows:
            theirs = Theirs(converted(name, Path(folder)), options)
            theirs.rates()  # warm up
            form = dtype if model == SMOLLM2 else model.name
            print_rows([name, form], options.rounds, theirs.rates,
                       lambda: schmidt_rates(options, model, dtype))
            theirs.close()


if __name__ == "__main__":
    main()
