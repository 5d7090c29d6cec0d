"""Talks with two models on the page of `schmidt serve`, in headless Chromium.

usage: chat_page_in_browser.py PROGRAM WRITE_MODELS [--keep FOLDER] [--models A B]

WRITE_MODELS FOLDER writes two tiny models of other weights; the second is compressed and both are
served side by side. On pages 360, 800 and 1440 pixels wide, light and dark, two messages are typed
and sent, and the first again in a new talk. Fails where a page is wider than its window, a text is
hard to tell from what is behind it, the console holds a line, or an answer is not in its model's
column, or not the one that the API gives when this model alone is asked. --models A B talks with
those instead, --keep leaves pictures. Ends with 77 (skipped) where there is no Chromium.
"""

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import browser  # noqa: E402

TURNS = ("Hi", "Why?")
TOKENS = 8  # of an answer

# Stands beside the page on the same address, or a browser would not let it look inside. What holds
# back the end of loading, and so the browser, is the picture.
HARNESS = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0"><pre id="result"></pre>
<img src="/held" alt="" hidden><script>
const views = VIEWS, models = MODELS, turns = TURNS, tokens = TOKENS, contrast = CONTRAST;
COLOURSasync function becomes(what, condition) {
  for (let i = 0; i < 1000; ++i) {
    if (condition()) return;
    await new Promise(done => setTimeout(done, 20));
  }
  throw new Error('waited in vain for ' + what);
}

function look(frame, width) {
  const found = [], doc = frame.contentDocument, style = frame.contentWindow.getComputedStyle;
  if (doc.documentElement.scrollWidth > width) {
    found.push('is ' + doc.documentElement.scrollWidth + ' pixels wide');
  }
  for (const element of doc.body.querySelectorAll('*')) {
    const box = element.getBoundingClientRect(), text = element.textContent.trim();
    if (!box.width) continue;
    if (box.left < 0 || box.right > width + 0.5) found.push('leaves the page: ' + text);
    if (!text || element.children.length) continue;
    let behind = element;
    while (style(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
    const told = ratio(style(element).color, style(behind).backgroundColor);
    if (told < contrast) found.push('has a contrast of ' + told.toFixed(1) + ': ' + text);
  }
  return found;
}

// The places of what is made for each model: beside each other, or one above the other.
function places(elements, width) {
  const [one, other] = elements.map(element => element.getBoundingClientRect());
  const beside = Math.abs(one.top - other.top) < 1 && one.right < other.left;
  const above = Math.abs(one.left - other.left) < 1 && one.bottom < other.top;
  return (width < 600 ? above : beside) ? [] : ['has its columns in the wrong places'];
}

async function talk(frame, width, dark) {
  const found = [], doc = frame.contentDocument, at = id => doc.getElementById(id);
  const view = frame.contentWindow;
  if (view.matchMedia('(prefers-color-scheme: dark)').matches !== dark) {
    found.push('is not shown as asked');
  }
  const listed = () => [...doc.querySelectorAll('#models .model')];
  await becomes('the models', () => listed().length === models.length);
  const heads = listed();
  found.push(...places(heads, width));
  models.forEach((model, i) => {
    for (const text of [model.name, model.size + ' MB', model.forms]) {
      if (!heads[i].innerText.includes(text)) found.push('does not say of the model: ' + text);
    }
  });
  at('temperature').value = 0;
  at('tokens').value = tokens;
  at('in_turn').checked = dark;
  const ask = async (turn, text) => {
    at('text').focus();
    doc.execCommand('insertText', false, text);
    at('text').dispatchEvent(new view.KeyboardEvent('keydown',
        {key: 'Enter', bubbles: true, cancelable: true}));
    await becomes('the answers', () => at('send').textContent === 'Send' &&
        doc.querySelectorAll('.user').length === turn + 1);
    if ([...doc.querySelectorAll('.user')].pop().textContent !== text) {
      found.push('does not show what was asked');
    }
    const answers = [...doc.querySelectorAll('#talk .answer')].slice(-models.length);
    found.push(...places(answers, width));
    models.forEach((model, i) => {
      const text = answers[i].querySelector('.text').textContent;
      const speed = answers[i].querySelector('.speed').textContent;
      if (answers[i].getAttribute('aria-label') !== model.name) found.push('mixes the models up');
      if (text !== model.answers[turn]) {
        found.push('shows of ' + model.name + ' ' + JSON.stringify(text) + ', which answered ' +
            JSON.stringify(model.answers[turn]) + '; ' + answers[i].innerText);
      }
      if (!/^[0-9.]+\\stokens.s . first\\stoken\\safter\\s[0-9.]+\\ss/.test(speed)) {
        found.push('has as the speed: ' + speed);
      }
    });
    found.push(...look(frame, width));
  };
  for (const [turn, text] of turns.entries()) await ask(turn, text);
  if (views.length === 1) return found;  // for a picture
  at('turns').closest('details').open = true;
  found.push(...look(frame, width));
  at('reset').click();
  if (doc.querySelector('.answer')) found.push('keeps answers in a new talk');
  await ask(0, turns[0]);
  return found;
}

(async () => {
  const found = [];
  for (const {width, height, dark} of views) {
    const frame = document.createElement('iframe');
    frame.style.cssText = 'display:block;border:0;height:' + height + 'px;width:' + width +
        'px;color-scheme:' + (dark ? 'dark' : 'light');
    frame.src = '/';
    document.body.append(frame);
    await new Promise(done => { frame.onload = done; });
    let what;
    try { what = await talk(frame, width, dark); } catch (e) { what = [String(e)]; }
    found.push(...what.map(w => width + (dark ? ' dark: ' : ' light: ') + 'the page ' + w));
    if (views.length > 1) frame.remove();
  }
  document.getElementById('result').textContent = JSON.stringify({looked: views.length, found});
  document.getElementById('result').hidden = views.length === 1;
  await fetch('/done');
})();
</script>""".replace("COLOURS", browser.COLOURS)


class Gate(BaseHTTPRequestHandler):
    """Serves the harness, and all else from the server behind it."""

    behind = 0  # its port
    harness = ""
    done = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/harness":
            self.reply("text/html; charset=utf-8", self.harness.encode())
        elif self.path == "/held":
            self.done.wait(240)
            self.reply("image/gif", b"GIF89a")
        elif self.path == "/done":
            self.done.set()
            self.reply("text/plain", b"")
        else:
            self.forward()

    def do_POST(self) -> None:
        self.forward()

    def reply(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def forward(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.behind, timeout=120)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        connection.request(self.command, self.path, body)
        answer = connection.getresponse()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        self.end_headers()
        while piece := answer.read1():
            self.wfile.write(piece)
            self.wfile.flush()
        connection.close()

    def log_message(self, *_: object) -> None:
        pass


def ask(port: int, method: str, path: str, body: dict | None = None) -> dict:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request(method, path, json.dumps(body) if body else None)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        sys.exit(f"{path}: status {answer.status}: {text.decode()}")
    return json.loads(text)


def expected(port: int) -> list[dict]:
    """What the page has to show of each model, by the API."""
    models = []
    for model in ask(port, "GET", "/v1/models")["data"]:
        messages, answers = [], []
        for turn in TURNS:
            messages.append({"role": "user", "content": turn})
            answer = ask(port, "POST", "/v1/chat/completions", {
                "model": model["id"], "messages": messages, "temperature": 0, "max_tokens": TOKENS})
            messages.append(answer["choices"][0]["message"])
            answers.append(messages[-1]["content"])
        models.append({"name": model["id"], "size": f"{model['meta']['bytes'] / 1e6:.1f}",
                       "forms": model["meta"]["forms"], "answers": answers})
    assert models[0]["answers"] != models[1]["answers"], "the models do not differ"
    return models


def browse(program: str, port: int, views: list[dict], models: list[dict], folder: Path,
           *output: str) -> tuple[str, str]:
    """-> what the browser wrote to stdout, and the lines of the pages' consoles."""
    Gate.harness = browser.filled(HARNESS, VIEWS=views, MODELS=models, TURNS=TURNS, TOKENS=TOKENS,
                                  CONTRAST=browser.CONTRAST)
    Gate.done.clear()
    done = browser.run(program, folder, f"http://127.0.0.1:{port}/harness", "--hide-scrollbars",
                       "--enable-logging=stderr", *output)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, "\n".join(console)


def look_at(program: str, port: int, models: list[dict], folder: Path, keep: Path | None) -> int:
    gate = ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    Gate.behind = port
    threading.Thread(target=gate.serve_forever, daemon=True).start()
    views = [{"width": width, "height": 900, "dark": dark}
             for width in browser.WIDTHS for dark in (False, True)]
    shown, console = browse(program, gate.server_port, views, models, folder,
                            "--window-size=1500,1000", "--dump-dom")
    found = browser.result(shown)
    for what in found["found"] + console.splitlines():
        print(what)
    print(f"talked with {len(models)} models on {found['looked']} pages")
    for view in views if keep else ():
        name = f"{view['width']}_{'dark' if view['dark'] else 'light'}.png"
        browse(program, gate.server_port, [view], models, folder,
               f"--window-size={view['width']},{view['height']}", f"--screenshot={keep / name}")
    gate.shutdown()
    return 1 if found["found"] or console else 0


def main() -> int:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("program")
    parser.add_argument("write_models")
    parser.add_argument("--keep", type=Path, help="leave pictures of the pages in this folder")
    parser.add_argument("--models", nargs=2, help="talk with these instead of tiny ones")
    options = parser.parse_args()
    program = browser.find()
    if program is None:
        return browser.SKIPPED
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        models = options.models
        if not models:
            subprocess.run([options.write_models, temporary], check=True)
            models = [str(folder / "original"), str(folder / "small")]
            subprocess.run([options.program, "compress", str(folder / "other"), "-o", models[1],
                            "--method", "tt-svd", "--sites", "3", "--bond", "8", "-q"],
                           stdout=subprocess.DEVNULL, check=True)
        with subprocess.Popen([options.program, "serve", *models, "--port", "0", "--json", "-q"],
                              stdout=subprocess.PIPE, text=True) as server:
            try:
                port = json.loads(server.stdout.readline())["port"]
                return look_at(program, port, expected(port), folder, options.keep)
            finally:
                server.terminate()


if __name__ == "__main__":
    sys.exit(main())
