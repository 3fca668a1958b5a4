"""Draws the dashboard from what a running Slotwire really exports: `python -m tools.dashboard_picture HOST:PORT…`.

A Prometheus (Debian's package `prometheus`) scrapes the health ports for some minutes and evaluates each panel's
expressions; this draws what it answers, and nothing else, as docs/images/dashboard.svg. Grafana draws the same series
in its own way.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from tools.generate.dashboard import ACROSS, PANELS, Panel
from tools.sources import ROOT

PICTURE = ROOT / "docs" / "images" / "dashboard.svg"
SCRAPE_SECONDS = 2
STEP_SECONDS = 4
WIDTH, HEIGHT, GAP, HEAD, FOOT, LEFT = 400, 210, 12, 30, 44, 52
COLOURS = ("#3274d9", "#56a64b", "#e0752d", "#a352cc", "#e02f44", "#17a2b8", "#8f8f8f", "#c4a000")
SCALES = {"bytes": ((1e9, " GB"), (1e6, " MB"), (1e3, " kB"), (1, " B")), "s": ((60, " min"), (1, " s"), (1e-3, " ms"))}


class Line(NamedTuple):
    """A series with its legend, as pairs of Unix time and value."""

    legend: str
    points: list[tuple[float, float]]


@contextmanager
def prometheus(targets: list[str], port: int) -> Iterator[str]:
    """Scrape targets while the block runs; yields Prometheus' address."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "prometheus.yml")
        config.write_text(
            f"global: {{scrape_interval: {SCRAPE_SECONDS}s}}\n"
            f"scrape_configs: [{{job_name: slotwire, static_configs: [{{targets: {json.dumps(targets)}}}]}}]\n",
            encoding="utf-8",
        )
        program = shutil.which("prometheus") or "/usr/bin/prometheus"
        running = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=error",
            ]
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            running.terminate()
            running.wait()


def lines_of(url: str, panel: Panel, start: float, end: float) -> Iterator[Line]:
    """Let Prometheus evaluate a panel's expressions over a span."""
    for legend, expression in panel.lines.items():
        query = urllib.parse.urlencode(
            {
                "query": expression.replace("$__rate_interval", f"{5 * SCRAPE_SECONDS}s"),
                "start": start,
                "end": end,
                "step": STEP_SECONDS,
            }
        )
        with urllib.request.urlopen(f"{url}/api/v1/query_range?{query}") as answer:  # noqa: S310 - of loopback
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        for series in found:
            name = legend
            for label, value in series["metric"].items():
                name = name.replace(f"{{{{{label}}}}}", value)
            values = [(float(at), float(value)) for at, value in series["values"] if value not in {"NaN", "+Inf"}]
            yield Line(name, values)


def drawn(panels: list[tuple[Panel, list[Line]]], start: float, end: float) -> str:
    """Draw all panels as one SVG."""
    rows = -(-len(panels) // ACROSS)
    width, height = ACROSS * (WIDTH + GAP) + GAP, rows * (HEIGHT + GAP) + GAP
    namespace = "http://www.w3.org/2000/svg"
    parts = [
        f'<svg xmlns="{namespace}" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#f4f5f5"/>',
    ]
    for number, (panel, lines) in enumerate(panels):
        row, column = divmod(number, ACROSS)
        x, y = GAP + column * (WIDTH + GAP), GAP + row * (HEIGHT + GAP)
        parts += [f'<g transform="translate({x} {y})">', *_panel(panel, lines, start, end), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, lines: list[Line], start: float, end: float) -> Iterator[str]:
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" rx="3" fill="#fff" stroke="#d8d9da"/>'
    yield f'<text x="10" y="19" font-size="12.5" font-weight="600" fill="#333">{escape(panel.question)}</text>'
    top = max((value for line in lines for _, value in line.points), default=0.0) or 1.0
    bottom, right = HEIGHT - FOOT, WIDTH - 12
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * (bottom - HEAD)
        yield f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#eceded"/>'
        mark = _value(share * top, panel.unit)
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#777">{mark}</text>'
    legend_x = 10.0
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        places = [
            f"{LEFT + (at - start) / (end - start) * (right - LEFT):.1f},{bottom - value / top * (bottom - HEAD):.1f}"
            for at, value in line.points
        ]
        yield f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
        wide = 18 + 6.2 * len(line.legend)
        if number < len(COLOURS) and legend_x + wide < WIDTH:
            yield f'<rect x="{legend_x:.0f}" y="{HEIGHT - 21}" width="10" height="4" fill="{colour}"/>'
            yield f'<text x="{legend_x + 14:.0f}" y="{HEIGHT - 15}" fill="#555">{escape(line.legend)}</text>'
            legend_x += wide
    if not lines:
        yield f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle" fill="#777">no series</text>'
    minutes = f"{(end - start) / 60:.2g} min"
    yield f'<text x="{right}" y="{bottom + 14}" text-anchor="end" fill="#999">{minutes}</text>'


def _value(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    for scale, name in SCALES.get(unit, ()):
        if abs(value) >= scale:
            return f"{value / scale:.3g}{name}"
    return f"{value:.3g}{'/s' if unit == 'reqps' else ''}"


def main() -> None:
    """Scrape, and draw what was scraped."""
    parser = argparse.ArgumentParser(description="Draw the dashboard from what a running Slotwire exports.")
    parser.add_argument("targets", nargs="+", metavar="HOST:PORT", help="a health port")
    parser.add_argument("--minutes", type=float, default=4, help="how long to scrape")
    parser.add_argument("--port", type=int, default=19090, help="of the Prometheus that is started")
    chosen = parser.parse_args()
    with prometheus(chosen.targets, chosen.port) as url:
        threading.Event().wait(chosen.minutes * 60)
        end = time.time()
        start = end - (chosen.minutes - 0.5) * 60
        panels = [(panel, list(lines_of(url, panel, start, end))) for panel in PANELS]
    PICTURE.write_text(drawn(panels, start, end), encoding="utf-8")


if __name__ == "__main__":
    main()
