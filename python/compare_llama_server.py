"""`schmidt serve` beside llama-server: tokens a second of several clients, and time to the first token.

    python compare_llama_server.py MODEL GGUF --llama-server PROGRAM [--clients 8] [-r 5] [--json OUT.json]

MODEL is what schmidt serves (a folder that `quantize --bits 8` wrote), GGUF what llama-server does
(Q8_0). Both run all the time, with a slot for each client; in each round one after the other is
asked by all clients at once, by streams of /v1/completions: another prompt for each client and round,
sampled. Printed are the medians over the rounds and their ratio. Throughput over 1.00: schmidt is
faster; time to the first token under 1.00: schmidt answers sooner.
"""

import argparse
import contextlib
import http.client
import json
import socket
import statistics
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from in_turns import ROOT
from served import served

STORIES = ["a ship in the ice", "two brothers and a mill", "the last train", "a garden on a roof",
           "the clock maker's daughter", "a letter without a name", "the well in the desert",
           "a dog who could count", "the bridge at night", "an island of glass", "the honest thief"]


def asked(port: int, prompt: str, tokens: int, seed: int) -> tuple[float, int]:
    """Seconds to the first text, and the tokens that the server counted."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    body = {"model": "", "prompt": prompt, "max_tokens": tokens, "temperature": 0.8, "seed": seed,
            "stream": True, "stream_options": {"include_usage": True}}
    begun = time.perf_counter()
    connection.request("POST", "/v1/completions", json.dumps(body),
                       {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"status {answer.status}: {answer.read()[:200]!r}")
    first, count = None, 0
    for line in answer:
        if not line.startswith(b"data: {"):
            continue
        chunk = json.loads(line[len(b"data: "):])
        if first is None and any(choice.get("text") for choice in chunk.get("choices", [])):
            first = time.perf_counter() - begun
        if chunk.get("usage"):
            count = chunk["usage"]["completion_tokens"]
    connection.close()
    return first if first is not None else time.perf_counter() - begun, count


def load(port: int, options: argparse.Namespace, number: int) -> dict[str, float]:
    """One round: all clients at once, the next request of each as soon as the last has ended."""
    firsts: list[float] = []
    counts: list[int] = []

    def client(place: int) -> None:
        for i in range(options.requests):
            key = (number * options.clients + place) * options.requests + i
            story = STORIES[key % len(STORIES)]
            prompt = (f"Story number {key}. Write a long story about {story}. It is told by somebody "
                      "who was there, and it begins on a cold morning. Once upon a time there was ")
            first, count = asked(port, prompt, options.tokens, key)
            firsts.append(first)
            counts.append(count)

    begun = time.perf_counter()
    with ThreadPoolExecutor(options.clients) as pool:
        for done in [pool.submit(client, place) for place in range(options.clients)]:
            done.result()
    return {"tokens/s": sum(counts) / (time.perf_counter() - begun),
            "time to first token, s": statistics.median(firsts)}


@contextlib.contextmanager
def llama_server(options: argparse.Namespace):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = options.clients * 1024
    command = [options.llama_server, "-m", options.gguf, "--port", port, "-np", options.clients,
               "-c", context, "-t", options.threads, "-tb", options.threads, "--no-webui"]
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health")
                    break
                time.sleep(0.1)
            else:
                raise SystemExit("error: llama-server did not start within a minute")
            yield port
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--llama-server", required=True, type=Path)
    parser.add_argument("--schmidt", type=Path, default=ROOT / "build/release/bin/schmidt")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=2, help="of each client in a round")
    parser.add_argument("--tokens", type=int, default=96, help="of an answer, at most")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="bfloat16", help="of schmidt's computation")
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    with llama_server(options) as port, \
            served(options.schmidt, options.model, "--slots", options.clients, "--dtype",
                   options.dtype, "--threads", options.threads) as ours:
        ports = {"llama-server": port, "schmidt": ours.port}
        for each in ports.values():
            load(each, options, 0)  # warm up
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in ports}
        for number in range(1, options.rounds + 1):
            for name, each in ports.items():
                rounds[name].append(load(each, options, number))
    print("| | llama-server | schmidt | ratio | lowest | highest |\n|---|---|---|---|---|---|")
    for what in rounds["schmidt"][0]:
        theirs, mine = ([one[what] for one in rounds[name]] for name in ports)
        ratios = [m / t for m, t in zip(mine, theirs, strict=True)]
        print(f"| {what} | {statistics.median(theirs):.3g} | {statistics.median(mine):.3g} "
              f"| {statistics.median(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f} |")
    if options.json:
        options.json.write_text(json.dumps(rounds, indent=1) + "\n")


if __name__ == "__main__":
    main()
