"""`schmidt serve` as other programs use it: started, asked, ended."""

import contextlib
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Server:
    url: str  # without a slash at its end
    port: int
    pid: int

    def post(self, path: str, body: dict) -> dict:
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)


@contextlib.contextmanager
def served(program, model, *more) -> Iterator[Server]:
    """A server of the model on a free port; `more` are options of the verb. It has to end in order."""
    command = [program, "serve", model, "--port", 0, "--json", "-q", *more]
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE,
                          text=True) as process:
        try:
            where = json.loads(process.stdout.readline())
            yield Server(where["url"], where["port"], process.pid)
        finally:
            process.terminate()
        status = process.wait(60)
        assert status == 0, f"the server ended with status {status}"
