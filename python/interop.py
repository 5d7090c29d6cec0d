"""Which program opens which checkpoint, and how near its numbers are to schmidt's.

    python interop.py --text FILE -o WORK ORIGINAL=models/smollm2.gguf INT4=DIR LOWRANK=DIR ..

Each NAME=MODEL is one row. The columns: transformers without and with the folder's Python files;
what `export --to dense` writes in transformers; what `export --to gguf` writes in llama.cpp, a base
with its adapter where the model has low ranks beside integers; what `export --to peft` writes in
peft. A number is the largest difference, over the first tokens of FILE, between a token's
log-probability there and in `schmidt serve --exact`; "-" stands where a program refuses the
checkpoint or would draw weights at random, "absent" where it is not installed. Everything is
computed and exported in float32. Needs transformers; peft and llama-cpp-python where they are to be asked.
Prints the table of docs/interop.md; why something was refused goes to stderr.
"""

import argparse
import contextlib
import ctypes
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from served import served

ROOT = Path(__file__).resolve().parents[1]


class Absent(Exception):
    """A program is not installed."""


class Schmidt:
    def __init__(self, program: Path):
        self.program = program

    def logprobs(self, model: Path, text: str, count: int) -> tuple[list[int], torch.Tensor]:
        """The first ids of the text, and the log-probability of each but the first; with a count of
        0 all ids, and none."""
        with served(self.program, model, "--exact", "--dtype", "float32") as server:
            ids = server.post("/tokenize", {"prompt": text})["tokens"]
            if not count:
                return ids, torch.empty(0)
            ids = ids[:count]
            answer = server.post("/v1/completions", {"prompt": [ids], "max_tokens": 0,
                                                     "echo": True, "logprobs": 1})
        scores = answer["choices"][0]["logprobs"]["token_logprobs"][1:]
        return ids, torch.tensor(scores, dtype=torch.float64)

    def export(self, model: Path, target: str, out: Path, *more: str) -> Path:
        if out.is_dir():
            shutil.rmtree(out)
        command = [self.program, "export", model, "--to", target, "-o", out, "-q", "--force", *more]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return out


def chosen(logits: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """logits [t, vocab] -> the log-probability of each id but the first."""
    scores = logits[:-1].double().log_softmax(-1)
    return scores.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def by_transformers(folder: Path, ids: list[int], code: bool, adapter: Path | None = None):
    from transformers import AutoModelForCausalLM

    if folder.is_file():
        raise RuntimeError("a file")
    model, found = AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=code, dtype=torch.float32, output_loading_info=True)
    missing = set(found["missing_keys"]) - {"lm_head.weight"}
    if missing:
        raise RuntimeError(f"opens, but draws {len(missing)} weights at random")
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
    with torch.inference_mode():
        return chosen(model(torch.tensor([ids])).logits[0], ids)


class LlamaCpp:
    """A GGUF file in llama.cpp, or a folder's base.gguf with its adapter. Keys and values are kept in
    float16, as it does by itself, or exactly."""

    def __init__(self, path: Path, exact_cache: bool = False, threads: int | None = None):
        self.exact_cache, self.threads = exact_cache, threads
        try:
            import llama_cpp
        except ImportError as e:
            raise Absent from e
        self.api = llama_cpp
        LlamaCpp.quiet = llama_cpp.llama_log_callback(lambda *_: None)  # kept: it is called later
        llama_cpp.llama_log_set(LlamaCpp.quiet, None)
        self.model = self.context = None
        try:
            self._open(path)
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path) -> None:
        api = self.api
        base = path / "base.gguf" if path.is_dir() else path
        self.model = api.llama_model_load_from_file(str(base).encode(),
                                                    api.llama_model_default_params())
        if not self.model:
            raise RuntimeError("llama.cpp did not take the model")
        params = api.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = 512
        if self.threads:
            params.n_threads = params.n_threads_batch = self.threads
        if self.exact_cache:
            params.type_k = params.type_v = api.GGML_TYPE_F32
            params.flash_attn_type = api.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = api.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError("llama.cpp made no context")
        if not path.is_dir():
            return
        adapter = api.llama_adapter_lora_init(self.model, str(path / "lowrank.gguf").encode())
        if not adapter:
            raise RuntimeError("llama.cpp did not take the adapter")
        adapters = (api.llama_adapter_lora_p_ctypes * 1)(adapter)
        if api.llama_set_adapters_lora(self.context, adapters, 1, (ctypes.c_float * 1)(1.0)):
            raise RuntimeError("llama.cpp did not take the adapter")

    def close(self) -> None:
        """Gives back the memory, which Python's own collector does not; adapters go with the model."""
        if self.context:
            self.api.llama_free(self.context)
        if self.model:
            self.api.llama_model_free(self.model)
        self.model = self.context = None

    def forget(self) -> None:
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)

    def read(self, ids: list[int]) -> None:
        """Goes on by these tokens; the logits of the last are computed."""
        tokens = (self.api.llama_token * len(ids))(*ids)
        if self.api.llama_decode(self.context, self.api.llama_batch_get_one(tokens, len(ids))):
            raise RuntimeError("llama.cpp failed to decode")
        self.api.llama_get_logits_ith(self.context, -1)

    def logits(self, ids: list[int]) -> torch.Tensor:
        api = self.api
        batch = api.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for i, token in enumerate(ids):
                batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, i, 1
                batch.seq_id[i][0], batch.logits[i] = 0, True
            if api.llama_decode(self.context, batch):
                raise RuntimeError("llama.cpp failed to decode")
        finally:
            api.llama_batch_free(batch)
        vocab = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.model))
        rows = [torch.from_numpy(np.ctypeslib.as_array(
            api.llama_get_logits_ith(self.context, i), (vocab,)).copy()) for i in range(len(ids))]
        return torch.stack(rows)


def by_llama_cpp(path: Path, ids: list[int]) -> torch.Tensor:
    with contextlib.closing(LlamaCpp(path)) as model:
        return chosen(model.logits(ids), ids)


def by_peft(schmidt: Schmidt, model: Path, out: Path, ids: list[int]) -> torch.Tensor:
    try:
        import peft  # noqa: F401
    except ImportError as e:
        raise Absent from e
    folder = schmidt.export(model, "peft", out, "--dtype", "float32")
    return by_transformers(folder / "base", ids, False, folder)


def cell(what: str, run: Callable[[], torch.Tensor], ours: torch.Tensor) -> str:
    try:
        return f"{(run() - ours).abs().max().item():.2g}"
    except Absent:
        return "absent"
    except Exception as e:  # whatever a program says against a checkpoint
        print(f"{what}: {str(e).splitlines()[0] if str(e) else type(e).__name__}", file=sys.stderr)
        return "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the exports")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--schmidt", type=Path, default=ROOT / "build/release/bin/schmidt")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    schmidt = Schmidt(options.schmidt)
    text = options.text.read_text()[:20 * options.tokens]

    print("| checkpoint | transformers | and its Python files | `--to dense`: transformers "
          "| `--to gguf`: llama.cpp | `--to peft`: peft |\n|---|---|---|---|---|---|", flush=True)
    for named in options.models:
        name, _, path = named.partition("=")
        model, folder = Path(path), options.out / name
        folder.mkdir(exist_ok=True)
        ids, ours = schmidt.logprobs(model, text, options.tokens)

        def dense() -> torch.Tensor:
            out = schmidt.export(model, "dense", folder / "dense", "--dtype", "float32")
            return by_transformers(out, ids, False)

        def gguf() -> torch.Tensor:
            # A file, or a folder of base and adapter where there are low ranks beside weights.
            return by_llama_cpp(schmidt.export(model, "gguf", folder / "gguf", "--type", "f32"), ids)

        cells = [cell(f"{name} in transformers", lambda: by_transformers(model, ids, False), ours),
                 cell(f"{name} with its files", lambda: by_transformers(model, ids, True), ours),
                 cell(f"{name} dense", dense, ours), cell(f"{name} as GGUF", gguf, ours),
                 cell(f"{name} in peft",
                      lambda: by_peft(schmidt, model, folder / "peft", ids), ours)]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
