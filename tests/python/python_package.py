"""Builds Python's package by pip and holds it against transformers and against the program.

usage: python_package.py SOURCE PROGRAM [--site FOLDER]

FOLDER has the package already; otherwise pip builds it in SOURCE/build/python. Ends with 77
(skipped) where scikit-build-core is absent. Parts that need transformers or mypy are skipped, with
a message, where those are.
"""

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from typing import Any

import torch

SKIPPED = 77
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 256,
          "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
          "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
          "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
          "tie_word_embeddings": False, "torch_dtype": "float32"}
CALIBRATION: dict[str, Any] = {"calibration_tokens": 512, "calibration_context": 32}
HEALING: dict[str, Any] = {"context": 32, "batch": 4, "held_out": 4, "tokens": 2048}

source = Path()
program = ""


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def run_program(*arguments: str | Path) -> Any:
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.root = Path(cls.temporary.name)
        cls.model, cls.text = cls.root / "model", cls.root / "text.txt"
        write_model(cls.model)
        cls.text.write_text((source / "docs/usage.md").read_text())
        cls.small = cls.root / "small"
        schmidt.compress(cls.model, cls.small, keep=0.8, calibration=[cls.text], **CALIBRATION)
        torch.manual_seed(1)
        cls.ids = torch.randint(0, 256, (2, 24))

    def test_inspect_counts_what_the_files_hold(self) -> None:
        seen = schmidt.inspect(self.model)
        self.assertEqual(seen["parameters"], sum(t.numel() for t in weights(self.model).values()))
        self.assertEqual(seen, run_program("inspect", self.model, "--json"))
        self.assertLess(schmidt.inspect(self.small)["keep"], 0.81)

    def test_compress_writes_the_weights_that_the_program_writes(self) -> None:
        run_program("compress", self.model, "--json", "--keep=0.8", f"--calibration={self.text}",
                    "--calibration-tokens=512", "--calibration-context=32", "-o",
                    self.root / "by_program")
        ours, theirs = weights(self.small), weights(self.root / "by_program")
        self.assertEqual(ours.keys(), theirs.keys())
        for name, tensor in theirs.items():
            self.assertTrue(torch.equal(ours[name], tensor), name)

    def test_progress_and_result_tell_of_the_layers(self) -> None:
        told: list[schmidt.Progress] = []
        result = schmidt.compress(self.model, self.root / "told", keep=0.9, method="tt-svd",
                                  shape="low-rank", ignore="none", progress=told.append)
        self.assertEqual(len(result["layers"]), 14)
        self.assertEqual({(p.unit, p.total) for p in told if p.stage == "compress"},
                         {("layers", 14)})
        self.assertEqual(result["parameters"],
                         schmidt.inspect(self.root / "told")["parameters"])

    def test_a_budget_of_bytes_and_integers(self) -> None:
        bought = schmidt.compress(self.model, self.root / "bought", size="24KB", steps=2,
                                  calibration=self.text, **CALIBRATION)
        self.assertLessEqual(bought["bytes"], 24_000)
        rounded = schmidt.quantize(self.model, self.root / "rounded", bits=4, group=32,
                                   method="nearest")
        self.assertLess(rounded["bits_per_weight"], 8)
        self.assertFalse(schmidt.load(self.root / "rounded")(self.ids).isnan().any())

    def test_state_dict_holds_the_tensors_of_the_checkpoint(self) -> None:
        for folder in (self.model, self.small):
            stored, held = weights(folder), schmidt.load(folder).state_dict()
            self.assertEqual(stored.keys(), held.keys())
            for name, tensor in stored.items():
                self.assertTrue(torch.equal(held[name].reshape(tensor.shape), tensor), name)

    @unittest.skipUnless(installed("transformers"), "needs transformers")
    def test_logits_are_those_of_transformers(self) -> None:
        from transformers import AutoModelForCausalLM

        for folder in (self.model, self.small):
            theirs = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True,
                                                          dtype=torch.float32)
            with torch.no_grad():
                ours = schmidt.load(folder)(self.ids)
                torch.testing.assert_close(ours, theirs(self.ids).logits, rtol=1e-4, atol=1e-4)

    @unittest.skipUnless(installed("transformers"), "needs transformers")
    def test_gradients_are_those_of_transformers(self) -> None:
        from transformers import AutoModelForCausalLM

        theirs = AutoModelForCausalLM.from_pretrained(self.model, dtype=torch.float32)
        ours = schmidt.load(self.model)
        loss(theirs(self.ids).logits, self.ids).backward()
        loss(ours(self.ids), self.ids).backward()
        expected = dict(theirs.named_parameters())
        for name, parameter in ours.named_parameters():
            assert parameter.grad is not None, name
            torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-3, atol=1e-4)

    def test_a_step_lowers_the_loss_of_every_form(self) -> None:
        rounded = self.root / "rounded8"
        schmidt.quantize(self.model, rounded, bits=8, group=32, embedding_bits=16)
        for folder, full_gauge in ((self.model, False), (self.small, False), (self.small, True),
                                   (rounded, False)):
            model = schmidt.load(folder, full_gauge=full_gauge)
            before = loss(model(self.ids), self.ids)
            before.backward()
            for name, parameter in model.named_parameters():
                self.assertIsNotNone(parameter.grad, name)
            torch.optim.SGD(model.parameters(), lr=1e-3).step()
            after = loss(model(self.ids), self.ids)
            self.assertLess(after.item(), before.item())
            with torch.no_grad():  # by other kernels
                again = loss(model(self.ids), self.ids)
            self.assertAlmostEqual(again.item(), after.item(), places=4)

    def test_a_state_comes_back(self) -> None:
        model, other = schmidt.load(self.small), schmidt.load(self.small)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.01)
        self.assertFalse(torch.allclose(model(self.ids), other(self.ids)))
        other.load_state_dict(model.state_dict())
        torch.testing.assert_close(model(self.ids), other(self.ids))
        with self.assertRaisesRegex(ValueError, "assign=False"):
            other.load_state_dict(model.state_dict(), assign=True)

    def test_a_model_stays_where_it_was_loaded(self) -> None:
        model = schmidt.load(self.small)
        self.assertIs(model.to("cpu"), model)
        with self.assertRaisesRegex(TypeError, r"load\(path, dtype"):
            model.to(torch.bfloat16)
        halves = schmidt.load(self.small, torch.bfloat16)
        self.assertEqual(halves(self.ids).dtype, torch.bfloat16)

    def test_generation_is_that_of_the_program(self) -> None:
        model = schmidt.load(self.small)
        said = run_program("generate", self.small, "--json", "--prompt=Once", "-n", "12",
                           "--temperature=0", "--exact")
        (ids,) = model.generate([model.tokenizer.encode("Once")], max_new_tokens=12)
        self.assertEqual(ids, said["ids"])
        self.assertEqual(model.complete("Once", max_new_tokens=12), said["text"])
        drawn: list[tuple[int, int]] = []

        def on_token(row: int, token: int) -> bool:
            drawn.append((row, token))
            return len(drawn) < 3

        self.assertEqual(len(model.generate(self.ids[:1], on_token=on_token)[0]), 3)

    def test_an_exception_of_the_callback_leaves_work_to_go_on_with(self) -> None:
        out = self.root / "stopped"
        options: dict[str, Any] = {"keep": 0.8, "calibration": self.text, **CALIBRATION}

        class Enough(Exception):
            pass

        def progress(p: schmidt.Progress) -> None:
            if p.stage == "compress" and p.done == 7:
                raise Enough

        with self.assertRaises(Enough):
            schmidt.compress(self.model, out, progress=progress, **options)
        self.assertTrue((self.root / "stopped.partial").is_dir())
        self.assertFalse(out.exists())
        result = schmidt.compress(self.model, out, **options)
        self.assertGreater(result["resumed"], 0)
        for name, tensor in weights(self.small).items():
            self.assertTrue(torch.equal(weights(out)[name], tensor), name)

    def test_ctrl_c_saves_the_state_of_healing(self) -> None:
        out = self.root / "healed"
        options: dict[str, Any] = {"teacher": self.model, "data": [self.text],
                                   **HEALING, "tokens": "200k"}
        timer = threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()  # its thread runs, since Python's lock is free meanwhile
        with self.assertRaises(KeyboardInterrupt) as raised:
            schmidt.heal(self.small, out, **options)
        timer.cancel()
        self.assertTrue((self.root / "healed.partial").is_dir())
        if sys.version_info >= (3, 11):
            self.assertIn("state is saved", raised.exception.__notes__[0])
        with self.assertRaisesRegex(ValueError, "resume"):
            schmidt.heal(self.small, out, **options)

        steps: list[int] = []

        def progress(p: schmidt.Progress) -> None:
            if p.stage == "heal":
                steps.append(p.done)
            if len(steps) == 2:
                raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            schmidt.heal(self.small, out, resume=True, progress=progress, **options)
        self.assertGreater(steps[0], 0)

    def test_healing_lowers_the_loss(self) -> None:
        result = schmidt.heal(self.small, self.root / "better", teacher=self.model, data=self.text,
                              learning_rate=1e-3, **HEALING)
        self.assertLess(result["after"]["loss"], result["before"]["loss"])
        schmidt.load(self.root / "better")

    def test_mistakes_are_exceptions_of_one_line(self) -> None:
        out = self.root / "never"
        with self.assertRaisesRegex(ValueError, "expected one of --keep, --size"):
            schmidt.compress(self.model, out)
        with self.assertRaisesRegex(ValueError, "--keep"):
            schmidt.compress(self.model, out, keep="much")  # type: ignore[arg-type]
        with self.assertRaisesRegex(TypeError, "did you mean 'keep'"):
            schmidt.compress(self.model, out, kep=0.5)  # type: ignore[call-arg]
        with self.assertRaisesRegex(ValueError, "does not exist|no such model|expected"):
            schmidt.inspect(self.root / "absent")
        with self.assertRaises(FileNotFoundError) as refused:
            schmidt.compress(self.model, out, keep=0.8, calibration=[self.root / "absent.txt"])
        self.assertEqual(refused.exception.filename, str(self.root / "absent.txt"))
        with self.assertRaisesRegex(ValueError, r"expected ids in \[0, 256\)"):
            schmidt.load(self.model)(torch.tensor([[256]]))
        self.assertFalse(out.exists())

        broken = self.root / "broken"
        write_model(broken)
        data = (broken / "model.safetensors").read_bytes()
        (broken / "model.safetensors").write_bytes(data[:-100])
        with self.assertRaises(schmidt.FormatError) as bad:
            schmidt.load(broken)
        self.assertTrue(bad.exception.path.startswith(str(broken)))
        self.assertIn(bad.exception.reason, str(bad.exception))
        self.assertIn(bad.exception.place, str(bad.exception))
        self.assertNotIn("\n", str(bad.exception))

    def test_another_torch_is_refused(self) -> None:
        code = "import torch; torch.__version__ = '2.12.1+cpu'; import schmidt"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        self.assertRegex(done.stderr.splitlines()[-1],
                         r"ImportError: .*built with torch [\d.]+ .*found torch 2\.12\.1")

    def test_types_of_options_are_the_parsers(self) -> None:
        written = subprocess.run([sys.executable, source / "scripts/python_options.py"],
                                 capture_output=True, text=True, check=True).stdout
        self.assertEqual((source / "python/schmidt/_options.py").read_text(), written)

    @unittest.skipUnless(installed("mypy"), "needs mypy")
    def test_types_hold(self) -> None:
        def check(*arguments: str) -> str:
            return subprocess.run([sys.executable, "-m", "mypy", "--strict", "--no-error-summary",
                                   *arguments], capture_output=True, text=True,
                                  cwd=self.root).stdout

        self.assertEqual(check("-p", "schmidt"), "")
        right = ("import schmidt\nr = schmidt.compress('a', 'b', keep=0.5, calibration=['t'])\n"
                 "m = schmidt.load('b')\nm.generate([[1]], top_k=3)[0].append(2)\n")
        self.assertEqual(check("-c", right), "")
        for wrong in ("schmidt.compress('a', 'b', kep=0.5)", "schmidt.heal('a', 'b')",
                      "schmidt.quantize('a', 'b', bits=7)"):
            self.assertIn("error", check("-c", f"import schmidt\n{wrong}\n"), wrong)


def loss(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def write_model(folder: Path) -> None:
    """A tiny random model whose logits differ by much, with a tokenizer of bytes."""
    from safetensors.torch import save_file

    sys.path.append(str(source / "bench"))
    from random_model import shapes, write_tokenizer

    torch.manual_seed(0)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    write_tokenizer(folder)
    save_file({name: torch.ones(shape) if len(shape) == 1 else 0.2 * torch.randn(shape)
               for name, shape in shapes(CONFIG).items()},
              folder / "model.safetensors", metadata={"format": "pt"})


def install(site: Path) -> None:
    if not installed("scikit_build_core"):
        print("skipped: needs scikit-build-core")
        sys.exit(SKIPPED)
    subprocess.run([sys.executable, "-m", "pip", "install", "--disable-pip-version-check",
                    "--no-build-isolation", "--no-deps", "--target", site, source], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("program")
    parser.add_argument("--site", type=Path)
    given, rest = parser.parse_known_args()
    source, program = given.source, given.program
    with tempfile.TemporaryDirectory() as temporary:
        site = given.site or Path(temporary)
        if given.site is None:
            install(site)
        sys.path.insert(0, str(site))
        os.environ["PYTHONPATH"] = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
        os.environ["MYPYPATH"] = str(site)
        import schmidt

        unittest.main(argv=[sys.argv[0], *rest])
