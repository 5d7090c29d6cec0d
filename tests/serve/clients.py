"""Drives `schmidt serve` by the clients that people use: the openai package, lm-evaluation-harness.

usage: clients.py PROGRAM MODEL

Each part runs where its package is installed; ends with 77 (skipped) where neither is, or where
there is no MODEL. Fails where an answer is not what the package's own types promise, or where
log-likelihoods that the harness reads differ from sums over the server's echo.
"""

import importlib.util
import math
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "python"))
from served import Server, served  # noqa: E402

SKIPPED = 77
PAIRS = [("The capital of France is", " Paris"), ("The capital of France is", " a large cheese"),
         ("Two and two make", " four"), ("Once upon a time", ", there was a little girl")]


def openai_package(server: Server) -> None:
    import openai

    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none")
    name = client.models.list().data[0].id
    asked = {"model": name, "messages": [{"role": "user", "content": "Say hello."}],
             "max_tokens": 12, "temperature": 0}
    whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    text = whole.choices[0].message.content
    assert text and whole.choices[0].finish_reason in ("stop", "length")
    assert len(whole.choices[0].logprobs.content[0].top_logprobs) == 2
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    pieces, usage = [], None
    for chunk in client.chat.completions.create(**asked, stream=True,
                                                stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        pieces += [choice.delta.content or "" for choice in chunk.choices]
    assert "".join(pieces) == text and len(pieces) > 2
    assert usage.completion_tokens == whole.usage.completion_tokens
    completion = client.completions.create(model=name, prompt=["One, two,", "A, B,"], n=2, seed=1,
                                           max_tokens=4, logprobs=1, echo=True)
    assert [choice.index for choice in completion.choices] == [0, 1, 2, 3]
    assert completion.choices[2].text.startswith("A, B,")
    streamed = client.completions.create(model=name, prompt="One, two,", max_tokens=4, stream=True)
    assert sum(len(chunk.choices[0].text) for chunk in streamed) > 0
    for wrong, error in (({"model": "another"}, openai.NotFoundError),
                         ({"temperature": -1}, openai.BadRequestError)):
        try:
            client.chat.completions.create(**(asked | wrong))
            raise AssertionError(f"taken: {wrong}")
        except error as refused:
            assert refused.body["message"]
    print(f"openai {openai.__version__}: models, chat, completions and streams; {text!r}")


def harness(server: Server) -> None:
    import lm_eval
    from lm_eval.api.instance import Instance
    from lm_eval.api.registry import get_model

    lm = get_model("local-completions")(base_url=server.url + "/v1/completions", model="",
                                        num_concurrent=2, batch_size=2)
    asked = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(PAIRS)]
    for (context, end), (log_p, greedy) in zip(PAIRS, lm.loglikelihood(asked)):
        length = server.post("/tokenize",
                             {"prompt": context, "add_special_tokens": False})["count"]
        answer = server.post("/v1/completions", {"prompt": context + end, "echo": True,
                                                 "logprobs": 1, "max_tokens": 0, "temperature": 0})
        choice = answer["choices"][0]
        expected = choice["logprobs"]["token_logprobs"][length:]
        best = [max(top.values()) for top in choice["logprobs"]["top_logprobs"][length:]]
        assert math.isclose(log_p, sum(expected), abs_tol=1e-3), (log_p, expected)
        assert greedy == (expected == best), (greedy, expected, best)
        print(f"lm_eval {lm_eval.__version__}: {context!r} + {end!r}: {log_p:.4f}, {greedy}")
    asked = [Instance("generate_until", {}, ("One, two, three,", {"until": ["\n", "."],
                                                                 "max_gen_toks": 8}), 0)]
    print(f"lm_eval {lm_eval.__version__}: {lm.generate_until(asked)}")


def main() -> int:
    program, model = sys.argv[1:]
    parts = {"openai": openai_package, "lm_eval": harness}
    present = [part for part in parts if importlib.util.find_spec(part)]
    if not present or not Path(model).exists():
        print(f"skipped: expected the package openai or lm_eval and {model}")
        return SKIPPED
    with served(program, model, "--threads", 1) as server:
        for part in present:
            parts[part](server)
    return 0


if __name__ == "__main__":
    sys.exit(main())
