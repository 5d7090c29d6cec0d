"""Line charts as SVG that stand by themselves: no scripts, no outside fonts, light and dark.

usage: line_chart.py FIGURE.json [FIGURE.json ..]

Draws FIGURE.svg beside each file of measured values:

    {"title", "x_label", "y_label", "log_y", "dense": the dense model's value or null,
     "series": [{"name", "points": [[x, y], ..]}, ..]}
"""

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

# Of each line, on white and on black.
COLOURS = (("#1f5fa8", "#7fb2ee"), ("#b84a0a", "#f0975a"), ("#1f7a3c", "#6fca8a"),
           ("#8a3fa0", "#d094e2"), ("#806612", "#d6b84a"), ("#666666", "#b0b0b0"),
           ("#b02a5b", "#f07ea8"), ("#12747c", "#5fc8d0"))
INK, PAPER, GRID = ("#333333", "#dddddd"), ("#ffffff", "#16181c"), ("#e4e4e4", "#33373d")
DENSE = ("#b3261e", "#ff8a80")

WIDTH, PLOT_HEIGHT = 480, 280
PAD, LINE = 10, 16  # room at the edges; from one line of text to the next
FONT, TITLE_FONT = 12, 13
CHARACTER = 0.64  # width of one in ems: no common sans-serif font is wider on average

Points = list[tuple[float, float]]


@dataclass
class Figure:
    title: str
    x_label: str
    y_label: str
    series: dict[str, Points]
    log_y: bool = False
    dense: float | None = None


def text_width(text: str, size: float = FONT) -> float:
    return sum(CHARACTER if ord(c) < 0x250 else 1.1 for c in text) * size


def wrapped(text: str, width: float, size: float = FONT) -> list[str]:
    """The text in lines that fit; a word longer than a line is broken."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if text_width(joined, size) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if lines[-1] and text_width(lines[-1] + character, size) > width:
                lines.append("")
            lines[-1] += character
    return lines


def short_number(value: float) -> str:
    text = f"{value:g}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.2g}"
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def ticks(low: float, high: float, log: bool, most: int = 8) -> list[float]:
    """Round values from low to high."""
    if log and high / low >= 10:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1, 2, 5) if math.log10(high / low) < 2.5 else (1,)
        values = [m * 10.0**d for d in decades for m in steps]
    else:
        unit = 10.0 ** math.floor(math.log10((high - low) / most))
        step = next(s * unit for s in (1, 2, 5, 10) if (high - low) / (s * unit) <= most)
        values = [step * i for i in range(math.floor(low / step), math.ceil(high / step) + 1)]
    return [v for v in values if low * 0.999 <= v <= high * 1.001]


def reach(values: list[float], log: bool) -> float:
    """The largest value that the axis has to show: values far above all others are left beyond
    its end where they would flatten the rest, a quarter of all at most."""
    ordered = sorted(values)
    place = [math.log10(v) if log else v for v in ordered]
    span = place[-1] - place[0]
    for i in range(-(-3 * len(ordered) // 4), len(ordered)):
        gap = place[i] - place[i - 1]
        if span > 0 and (gap > 1 and gap > 0.4 * span if log else gap > 0.8 * span):
            return ordered[i - 1]
    return ordered[-1]


def paint(attribute: str, colours: tuple[str, str]) -> str:
    """A colour for readers of SVG 1.1, and a pair for those that know of dark pages."""
    light, dark = colours
    return f'{attribute}="{light}" style="{attribute}:light-dark({light},{dark})"'


def text(x: float, y: float, content: str, anchor: str = "start", colours: tuple = INK,
         more: str = "") -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {paint("fill", colours)}{more}>'
            f"{escape(content)}</text>")


def line(d: str, colours: tuple, more: str = "") -> str:
    return f'<path d="{d}" fill="none" {paint("stroke", colours)}{more}/>'


def legend(entries: list[tuple[str, str]], top: float) -> tuple[list[str], float]:
    """Samples with their names, in two columns where those are short; returns the bottom too."""
    columns = 2 if all(text_width(n) + 34 <= (WIDTH - 2 * PAD) / 2 for _, n in entries) else 1
    width = (WIDTH - 2 * PAD) / columns
    rows = math.ceil(len(entries) / columns)
    parts, bottom = [], top
    for column in range(columns):
        y = top
        for sample, name in entries[column * rows:(column + 1) * rows]:
            x = PAD + column * width
            parts.append(f'<g transform="translate({x:.1f} {y - 4:.1f})">{sample}</g>')
            for content in wrapped(name, width - 34):
                parts.append(text(x + 28, y, content))
                y += LINE
        bottom = max(bottom, y)
    return parts, bottom


def line_chart(figure: Figure) -> str:
    """One line for each series; below the plot their names, in the order of the lines' ends."""
    series = figure.series
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    dense_drawn = figure.dense is not None and (figure.dense > 0 or not figure.log_y)
    if dense_drawn:
        ys.append(figure.dense)
    x_low, x_high = min(xs), max(xs)
    if x_low == x_high:
        x_low, x_high = x_low - 0.5, x_high + 0.5
    shown = reach(ys, figure.log_y)
    y_low, y_high = ((min(ys) / 1.15, shown * 1.15) if figure.log_y
                     else (min(0.0, min(ys)), shown * 1.05 or 1.0))
    beyond = [name for name, points in series.items() if any(y > shown for _, y in points)]

    title = wrapped(figure.title, WIDTH - 2 * PAD, TITLE_FONT * 1.1)
    y_label = wrapped(figure.y_label, PLOT_HEIGHT)
    y_ticks = ticks(y_low, y_high, figure.log_y)
    left = (PAD + LINE * len(y_label) + 8
            + max((text_width(short_number(y)) for y in y_ticks), default=0))
    right = WIDTH - PAD - text_width(short_number(x_high)) / 2
    head = PAD + LINE * len(title) + 10
    top = head + (LINE * len(beyond) + 8 if beyond else 0)  # a band for what lies beyond
    bottom = top + PLOT_HEIGHT

    def px(x: float) -> float:
        return left + (x - x_low) / (x_high - x_low) * (right - left)

    def py(y: float) -> float:
        share = (math.log(y / y_low) / math.log(y_high / y_low) if figure.log_y
                 else (y - y_low) / (y_high - y_low))
        return max(bottom - share * PLOT_HEIGHT, top)

    parts = [text(PAD, PAD + 10 + LINE * i, content,
                  more=f' font-size="{TITLE_FONT}" font-weight="bold"')
             for i, content in enumerate(title)]
    x_ticks = next(found for most in range(8, 0, -1)
                   if len(found := ticks(x_low, x_high, False, most)) < 2
                   or (right - left) / len(found) >= 10 + max(text_width(short_number(x))
                                                              for x in found))
    for x in x_ticks:
        parts.append(line(f"M{px(x):.1f} {top:.1f}V{bottom:.1f}", GRID))
        parts.append(text(px(x), bottom + LINE + 4, short_number(x), "middle"))
    for y in y_ticks:
        parts.append(line(f"M{left:.1f} {py(y):.1f}H{right:.1f}", GRID))
        parts.append(text(left - 6, py(y) + 4, short_number(y), "end"))
    for i, content in enumerate(wrapped(figure.x_label, right - left)):
        parts.append(text((left + right) / 2, bottom + LINE * (2 + i) + 7, content, "middle"))
    x_label_lines = i + 1
    for i, content in enumerate(y_label):
        x, y = PAD + 11 + LINE * i, (top + bottom) / 2
        parts.append(text(x, y, content, "middle", more=f' transform="rotate(-90 {x} {y:.1f})"'))

    entries = []
    by_end = sorted(series, key=lambda name: max(series[name])[1], reverse=True)
    for name in by_end:
        index = list(series).index(name)
        colours = COLOURS[index % len(COLOURS)]
        stroke = ' stroke-width="2"' + (' stroke-dasharray="9 3"' if index >= len(COLOURS) else "")
        inside = [(px(x), py(y)) for x, y in sorted(series[name]) if y <= shown]
        path = "M" + "L".join(f"{px(x):.1f} {py(y):.1f}" for x, y in sorted(series[name]))
        if inside:
            parts.append(line(path, colours, stroke))
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" {paint("fill", colours)}/>'
                  for x, y in inside]
        for x, y in series[name]:
            if y <= shown:
                continue
            at = head + LINE * beyond.index(name) + 11
            value = short_number(float(f"{y:.2g}"))
            turned = px(x) + 8 + text_width(value) > right  # no room at the right
            parts.append(f'<path d="M{px(x):.1f} {at - 10:.1f}l5 9h-10z" {paint("fill", colours)}/>')
            parts.append(text(px(x) + (-8 if turned else 8), at, value,
                              "end" if turned else "start", colours))
        sample = (line("M0 0H22", colours, stroke)
                  + f'<circle cx="11" cy="0" r="2.6" {paint("fill", colours)}/>')
        entries.append((sample, name + (", beyond the axis: values beside triangles"
                                        if name in beyond else "")))
    if beyond:
        parts.append(line(f"M{left:.1f} {top:.1f}H{right:.1f}", INK, ' stroke-dasharray="2 3"'))
    if figure.dense is not None:
        sample = line("M0 0H22", DENSE, ' stroke-width="1.6" stroke-dasharray="5 3"')
        name = f"the dense model: {short_number(figure.dense)}"
        if dense_drawn:
            parts.append(line(f"M{left:.1f} {py(figure.dense):.1f}H{right:.1f}", DENSE,
                              ' stroke-width="1.6" stroke-dasharray="5 3"'))
        else:
            name += ", below a logarithmic axis"
        entries.append((sample, name))
    named, end = legend(entries, bottom + LINE * (2 + x_label_lines) + 16)
    height = math.ceil(end - LINE + PAD + 4)
    head_of_file = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
                    f'viewBox="0 0 {WIDTH} {height}" style="color-scheme:light dark" '
                    f'font-family="Helvetica, Arial, \'DejaVu Sans\', sans-serif" '
                    f'font-size="{FONT}">')
    paper = f'<rect width="{WIDTH}" height="{height}" {paint("fill", PAPER)}/>'
    return "\n".join([head_of_file, paper, *parts, *named, "</svg>\n"])


def load(path: Path) -> Figure:
    held = json.loads(path.read_text())
    series = {s["name"]: [(x, y) for x, y in s["points"]] for s in held.pop("series")}
    return Figure(series=series, **held)


def save(figure: Figure, svg: Path) -> None:
    """Writes the drawing and, beside it as .json, the values that it shows."""
    series = ",\n".join(f"  {json.dumps({'name': name, 'points': points})}"
                        for name, points in figure.series.items())
    fields = {k: v for k, v in vars(figure).items() if k != "series"}
    head = json.dumps(fields, indent=1)[:-2]
    svg.with_suffix(".json").write_text(f'{head},\n "series": [\n{series}\n ]\n}}\n')
    svg.write_text(line_chart(figure))


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    for path in map(Path, sys.argv[1:]):
        path.with_suffix(".svg").write_text(line_chart(load(path)))


if __name__ == "__main__":
    main()
