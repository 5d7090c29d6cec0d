"""Line charts as SVG that stand by themselves: no scripts, no outside fonts."""

import math
from xml.sax.saxutils import escape

COLOURS = ("#1f5fa8", "#c8500a", "#2a8a4a", "#8a3fa0", "#a8881f", "#7a7a7a", "#b02a5b", "#2aa0a8")
WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 36, 48


def ticks(low: float, high: float, log: bool) -> list[float]:
    if log:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1, 2, 5) if math.log10(high / low) < 3 else (1,)
        values = [m * 10.0**d for d in decades for m in steps]
    else:
        unit = 10.0 ** math.floor(math.log10((high - low) / 4))
        step = next(s * unit for s in (1, 2, 5, 10) if (high - low) / (s * unit) <= 8)
        values = [step * i for i in range(math.floor(low / step), math.ceil(high / step) + 1)]
    return [v for v in values if low * 0.999 <= v <= high * 1.001]


def line_chart(title: str, x_label: str, y_label: str,
               series: dict[str, list[tuple[float, float]]], *, log_y: bool = False) -> str:
    """One line for each series of (x, y), its name at the right in the order of last values."""
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    x_low, x_high = min(xs), max(xs)
    y_low, y_high = (min(ys) * 0.9, max(ys) * 1.1) if log_y else (0.0, max(ys) * 1.05)

    def px(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def py(y: float) -> float:
        share = (math.log(y / y_low) / math.log(y_high / y_low) if log_y
                 else (y - y_low) / (y_high - y_low))
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def text(x: float, y: float, content: str, anchor: str = "start", more: str = "") -> str:
        return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>'
                f"{escape(content)}</text>")

    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
             f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11" fill="#333">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
             text(LEFT, 20, title, more='font-size="13" font-weight="bold"')]
    for x in ticks(x_low, x_high, False):
        parts.append(f'<path d="M{px(x):.1f} {TOP}V{bottom}" stroke="#e4e4e4"/>')
        parts.append(text(px(x), bottom + 16, f"{x:g}", "middle"))
    for y in ticks(y_low, y_high, log_y):
        parts.append(f'<path d="M{LEFT} {py(y):.1f}H{right}" stroke="#e4e4e4"/>')
        parts.append(text(LEFT - 6, py(y) + 4, f"{y:g}", "end"))
    parts.append(text((LEFT + right) / 2, HEIGHT - 12, x_label, "middle"))
    parts.append(text(16, (TOP + bottom) / 2, y_label, "middle",
                      f'transform="rotate(-90 16 {(TOP + bottom) / 2:.1f})"'))
    label_y = -math.inf
    by_end = sorted(series.items(), key=lambda item: py(max(item[1])[1]))
    for name, points in by_end:
        colour = COLOURS[list(series).index(name) % len(COLOURS)]
        path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in sorted(points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="2.5" fill="{colour}"/>'
                  for x, y in points]
        label_y = max(label_y + 14, py(max(points)[1]) + 4)
        parts.append(text(right + 8, label_y, name, more=f'style="fill:{colour}"'))
    return "\n".join([*parts, "</svg>\n"])
