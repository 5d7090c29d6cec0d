"""Many clients at once on `schmidt serve`: nothing is lost or exchanged, and memory stays flat.

usage: load.py PROGRAM [--clients N] [--seconds S] [--requests R]

Makes a tiny random model, asks every question alone, and then for S seconds, or until R requests
are answered where that takes longer, with N clients that stream, want the prompt back, chat, or
leave in the middle. Each whole answer has to be the one that was given alone. Ends with 77
(skipped) where transformers is not installed.
"""

import argparse
import http.client
import importlib.util
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "python"))
from served import served  # noqa: E402

SKIPPED = 77
CONTEXT = 256
MEMORY_MB = 24  # that may be added between the first fifth of the requests and the last


def make_model(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<|end|>", *alphabet])}
    config = LlamaConfig(vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64,
                         num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         max_position_embeddings=CONTEXT, initializer_range=0.5, bos_token_id=0,
                         eos_token_id=0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    template = ("{% for message in messages %}{{ message['role'] + ': ' + message['content'] + "
                "'\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>",
                            chat_template=template).save_pretrained(folder)


def questions() -> list[tuple[str, dict]]:
    draw = random.Random(1)
    asked = []
    for i in range(40):
        text = f"Beginning {i % 4}, then {draw.randrange(1000)} " + "word " * draw.randrange(12)
        body = {"max_tokens": draw.randrange(1, 40), "seed": i, "ignore_eos": True,
                "temperature": draw.choice([0, 1])}
        if i % 4 == 3:
            asked.append(("/v1/chat/completions",
                          body | {"messages": [{"role": "user", "content": text}]}))
        else:
            asked.append(("/v1/completions", body | {"prompt": text, "echo": i % 4 == 2}))
    return asked


def text_of(choice: dict) -> str:
    part = choice.get("message") or choice.get("delta")
    return choice.get("text", "") if part is None else part.get("content", "")


def ask(port: int, path: str, body: dict, leaves: bool = False) -> str | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise AssertionError(f"status {answer.status}: {answer.read()[:300]!r}")
        if not body.get("stream"):
            return text_of(json.loads(answer.read())["choices"][0])
        text, ended = "", False
        for line in answer:
            if leaves:
                return None
            if line.startswith(b"data: {"):
                text += "".join(text_of(choice) for choice in json.loads(line[6:])["choices"])
            ended = ended or line == b"data: [DONE]\n"
        assert ended, "a stream without its end"
        return text
    finally:
        connection.close()


def get(port: int, path: str) -> dict:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


class Load:
    def __init__(self, port: int, alone: list[str]):
        self.port, self.alone, self.asked = port, alone, questions()
        self.lock = threading.Lock()
        self.answered = self.left = 0
        self.wrong: list[str] = []

    def client(self, number: int, goes_on) -> None:
        draw = random.Random(number)
        while goes_on() and not self.wrong:
            i = draw.randrange(len(self.asked))
            path, body = self.asked[i]
            leaves = draw.random() < 0.1
            body = body | {"stream": leaves or draw.random() < 0.5}
            try:
                text = ask(self.port, path, body, leaves)
            except Exception as problem:  # every kind of it is a fault of the server here
                text = f"{type(problem).__name__}: {problem}"
            with self.lock:
                self.answered += 1
                self.left += leaves
                if text is not None and text != self.alone[i]:
                    self.wrong.append(f"{path} {body}: alone {self.alone[i]!r}, now {text!r}")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--requests", type=int, default=300)
    options = parser.parse_args()
    if importlib.util.find_spec("transformers") is None:
        print("skipped: expected the package transformers")
        return SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder))
        with served(options.program, folder, "--threads", 1) as server:
            load = Load(server.port, [ask(server.port, *question) for question in questions()])
            begun, memory = time.monotonic(), []

            def goes_on() -> bool:
                return (time.monotonic() - begun < options.seconds
                        or load.answered < options.requests)

            clients = [threading.Thread(target=load.client, args=(i, goes_on))
                       for i in range(options.clients)]
            for client in clients:
                client.start()
            while any(client.is_alive() for client in clients):
                time.sleep(0.2)
                memory.append((load.answered, resident_mb(server.pid)))
            assert not load.wrong, load.wrong[0]
            for _ in range(100):  # those who left last
                health = get(server.port, "/health")
                if health["running"] == health["waiting"] == 0:
                    break
                time.sleep(0.1)
            assert health["running"] == health["waiting"] == 0, health
            early = max(mb for count, mb in memory[:1] + memory if count <= load.answered / 5
                        or (count, mb) == memory[0])
            late = memory[-1][1]
            print(f"{load.answered} requests of {options.clients} clients in "
                  f"{time.monotonic() - begun:.1f} s, {load.left} left, each other answer as alone; "
                  f"resident {early:.1f} MB after a fifth, {late:.1f} MB at the end")
            assert late < early + MEMORY_MB, "memory grows"
    return 0


if __name__ == "__main__":
    sys.exit(main())
