"""Looks at pages and figures in headless Chromium, 360, 800 and 1440 pixels wide, light and dark.

usage: figures_in_browser.py WRITE_SAMPLES [--keep FOLDER]

WRITE_SAMPLES FOLDER writes pages and figures of the program; the figures of docs/figures and
awkward ones of bench/line_chart.py are looked at beside them. Fails where a page is no well-formed
XML, where a text leaves its figure or its page, where two texts of a figure lie on each other, where a text is too small to be
read or too like what is behind it, or where a figure of docs is not what its data draw. Ends with
77 (skipped) where there is no Chromium.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
sys.path.insert(0, str(ROOT / "tests"))
from line_chart import Figure, line_chart, load  # noqa: E402
from support import browser  # noqa: E402

SMALLEST = 6.5  # pixels of a font
LONG = "weighted low rank in both moments, allocated by sensitivity, with shared inputs and more"

HARNESS = """<!DOCTYPE html><meta charset="utf-8"><body><pre id="result"></pre><script>
const pages = PAGES, widths = WIDTHS, smallest = SMALLEST, contrast = CONTRAST;
COLOURSfunction holds(box, x, y) {
  return box.left <= x && x <= box.right && box.top <= y && y <= box.bottom;
}

function look(frame, page, width, dark) {
  const found = [], doc = frame.contentDocument, view = frame.contentWindow;
  const style = element => view.getComputedStyle(element);
  if (view.matchMedia('(prefers-color-scheme: dark)').matches !== dark) {
    found.push('is not shown as asked: ' + (dark ? 'dark' : 'light'));
  }
  if (doc.documentElement.scrollWidth > width) {
    found.push('is ' + doc.documentElement.scrollWidth + ' pixels wide');
  }
  for (const details of doc.querySelectorAll('details')) details.open = true;
  for (const element of doc.querySelectorAll(
      'h1,h2,h3,p,td,th,figure,figcaption,summary,pre,blockquote')) {
    const box = element.getBoundingClientRect();
    const scrolled = element.closest('.table');
    const end = scrolled ? Infinity : width;
    if (box.left < 0 || box.right > end + 0.5) found.push('leaves the page: ' + element.innerText);
    const own = style(element).backgroundColor, clear = own.startsWith('rgba(0, 0, 0, 0');
    const behind = clear ? style(doc.body).backgroundColor : own;
    if (ratio(style(element).color, behind) < contrast) {
      found.push('is hard to tell from the page: ' + element.innerText);
    }
  }
  const blocks = [...doc.querySelectorAll('h1,h2,h3,p,.table,figure,blockquote,pre')];
  for (const [i, one] of blocks.entries()) for (const other of blocks.slice(i + 1)) {
    if (one.contains(other)) continue;
    const a = one.getBoundingClientRect(), b = other.getBoundingClientRect();
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (across > 1 && down > 1) {
      found.push('"' + one.innerText + '" lies on "' + other.innerText + '"');
    }
  }
  for (const svg of doc.querySelectorAll('svg')) {
    const frame_box = svg.getBoundingClientRect();
    const scale = frame_box.width / svg.viewBox.baseVal.width;
    const shapes = [...svg.querySelectorAll('rect,text')];
    const texts = [];
    for (const [i, text] of shapes.entries()) {
      if (text.tagName !== 'text' || !text.textContent.trim()) continue;
      const box = text.getBoundingClientRect(), name = '"' + text.textContent + '"';
      if (box.left < frame_box.left - 0.5 || box.right > frame_box.right + 0.5 ||
          box.top < frame_box.top - 0.5 || box.bottom > frame_box.bottom + 0.5) {
        found.push(name + ' leaves its figure');
      }
      if (box.left < 0 || box.right > Math.max(width, page.natural)) {
        found.push(name + ' leaves the page');
      }
      const size = parseFloat(style(text).fontSize) * scale;
      if (size < smallest) found.push(name + ' is ' + size.toFixed(1) + ' pixels high');
      const x = (box.left + box.right) / 2, y = (box.top + box.bottom) / 2;
      const behind = shapes.slice(0, i).filter(s => s.tagName === 'rect' &&
          style(s).fill !== 'none' && holds(s.getBoundingClientRect(), x, y)).pop();
      const told = ratio(style(text).fill, style(behind).fill);
      if (told < contrast) found.push(name + ' has a contrast of ' + told.toFixed(1));
      for (const other of texts) {
        const across = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
        const down = Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top);
        const slack = 0.2 * Math.min(box.height, other.box.height, box.width, other.box.width);
        if (across > slack && down > slack) found.push(name + ' lies on ' + other.name);
      }
      texts.push({box, name});
    }
  }
  return found.map(what => page.name + ', ' + width + (dark ? ' dark: ' : ' light: ') + what);
}

function shown(page, width, dark) {
  return new Promise(done => {
    const frame = document.createElement('iframe');
    frame.style.cssText = 'border:0;height:900px;width:' + width + 'px;color-scheme:' +
        (dark ? 'dark' : 'light');
    frame.onload = () => { const found = look(frame, page, width, dark); frame.remove();
                           done(found); };
    frame.srcdoc = page.source;
    document.body.append(frame);
  });
}

(async () => {
  const found = [];
  let looked = 0;
  for (const page of pages) for (const width of widths) for (const dark of [false, true]) {
    try { found.push(...await shown(page, width, dark)); } catch (e) { found.push(page.name + e); }
    ++looked;
  }
  document.getElementById('result').textContent = JSON.stringify({looked, found});
})();
</script>""".replace("COLOURS", browser.COLOURS)


def awkward_figures() -> dict[str, Figure]:
    """Long names, many lines, few points, values far off."""
    shares = (0.1, 0.5, 0.9)
    many = {f"{LONG}, variant {i}": [(s, (i + 1) * 10 ** (3 * s)) for s in shares]
            for i in range(9)}
    far = {"near": [(s, 30 + 10 * s) for s in shares], "far": [(s, 1e7 * s) for s in shares[:1]],
           "once far": [(0.1, 40.0), (0.5, 38.0), (0.9, 3.5e9)], "also near": [(0.2, 35), (0.9, 31)],
           "near too": [(s, 33 + s) for s in shares]}
    return {
        "many": Figure(LONG + ". " + LONG, LONG, LONG, many, log_y=True, dense=1.5),
        "far": Figure("Far", "share", "perplexity", far, log_y=True, dense=30.2),
        "linear": Figure("Linear", "share", "error",
                         {"a": [(0.1, 0.5), (0.9, 0.1)], "b": [(0.1, 0.4), (0.9, 0.2)]}, dense=0.0),
        "steps": Figure("Steps", "step", "loss", {"run": [(0, 5.0), (163840, 2.0)]}),
        "one": Figure("One", "share", "error", {"point": [(0.5, 0.25)]}, dense=0.0),
        "zero": Figure("Zero", "share", "error", {"point": [(0.5, 0.0)]}, dense=0.0),
        "small": Figure("Small", "share", "error", {"a": [(1e-5, 2e-7), (3e-5, 9e-6)]}, log_y=True),
    }


def page_of(name: str, source: str) -> dict:
    """A page as it is; a figure as a page of documents shows it, no wider than the page, or, where
    it is a large one, as a browser opens it."""
    if name.endswith(".html"):
        return {"name": name, "source": source, "natural": 0}
    natural = int(float(re.search(r'width="([\d.]+)"', source)[1]))
    large = natural > 600
    width = "" if large else "max-width:100%;height:auto"
    scroll = "overflow:auto" if large else ""
    body = (f'<!DOCTYPE html><html style="color-scheme:light dark"><body style="margin:0">'
            f'<div style="{scroll}"><style>svg{{display:block;{width}}}</style>{source}</div>')
    return {"name": name, "source": body, "natural": natural if large else 0}


def broken_pages(folder: Path) -> list[str]:
    """Pages of the program that a strict parser refuses, or that ask for anything outside."""
    found = []
    for path in sorted(folder.glob("*.html")):
        try:
            page = ElementTree.fromstring(path.read_text())
        except ElementTree.ParseError as error:
            found.append(f"{path.name} is no XML: {error}")
            continue
        for element in page.iter():
            tag = element.tag.rpartition("}")[2]
            if tag in ("script", "link", "img", "iframe") or element.get("src"):
                found.append(f"{path.name} holds <{tag}>")
            if re.match(r"[a-z]+:|//", element.get("href", "")):
                found.append(f"{path.name} links to {element.get('href')}")
    return found


def look_at(program: str, pages: list[dict], folder: Path) -> dict:
    harness = folder / "harness.html"
    harness.write_text(browser.filled(HARNESS, WIDTHS=browser.WIDTHS, SMALLEST=SMALLEST,
                                      CONTRAST=browser.CONTRAST, PAGES=pages))
    done = browser.run(program, folder, harness.as_uri(), "--window-size=1500,1000",
                       "--virtual-time-budget=120000", "--dump-dom")
    return browser.result(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("write_samples")
    parser.add_argument("--keep", type=Path, help="leave the samples in this folder")
    options = parser.parse_args()
    found = []
    documented = {path.with_suffix(".svg").name: load(path)
                  for path in sorted((ROOT / "docs/figures").glob("*.json"))}
    for name, figure in documented.items():
        if (ROOT / "docs/figures" / name).read_text() != line_chart(figure):
            found.append(f"docs/figures/{name} is not what bench/line_chart.py draws of its data")
    program = browser.find()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        subprocess.run([options.write_samples, str(folder)], check=True)
        for name, figure in awkward_figures().items():
            (folder / f"chart_{name}.svg").write_text(line_chart(figure))
        found += broken_pages(folder)
        if program:
            sources = sorted(folder.glob("*.svg")) + sorted(folder.glob("[!h]*.html"))
            sources += sorted(folder.glob("healing*.html"))
            sources += sorted((ROOT / "docs/figures").glob("*.svg"))
            pages = [page_of(path.name, path.read_text()) for path in sources]
            result = look_at(program, pages, Path(temporary))
            found += result["found"]
            print(f"looked at {len(pages)} pages and figures, {result['looked']} times")
    for what in found:
        print(what)
    if found:
        return 1
    return 0 if program else browser.SKIPPED


if __name__ == "__main__":
    sys.exit(main())
