"""What tests that look at pages in headless Chromium share."""

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

SKIPPED = 77
WIDTHS = (360, 800, 1440)
CONTRAST = 4.5  # of WCAG 2.1, level AA

# For a harness: the contrast of two colours by WCAG.
COLOURS = """
function luminance(colour) {
  const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(c => c / 255)
      .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
}
function ratio(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}
"""


def find() -> str | None:
    """Chromium's path; says so where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    print("skipped: no Chromium here (Debian: apt-get install chromium)")
    return None


def filled(harness: str, **values: object) -> str:
    """The harness with the first of each name in it replaced by its value, in this order."""
    for name, value in values.items():
        harness = harness.replace(name, json.dumps(value).replace("</", "<\\/"), 1)
    return harness


def run(browser: str, folder: Path, address: str, *options: str) -> subprocess.CompletedProcess:
    """Opens a page; what the browser keeps goes into the folder."""
    return subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu",
         f"--user-data-dir={folder / 'browser'}", *options, address],
        capture_output=True, text=True, timeout=280, check=True)


def result(shown: str) -> dict:
    """What a harness left in its element `result`."""
    found = re.search(r'<pre id="result"[^>]*>(.+?)</pre>', shown, re.DOTALL)
    if not found:
        sys.exit("the browser ended before it had looked at everything")
    return json.loads(html.unescape(found[1]))
