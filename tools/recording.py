"""Record `make run` as the picture in the README: `python -m tools.recording`.

What the terminal showed is what is drawn: the command runs under a pseudo-terminal until the demo agent has told
enough, is stopped by Ctrl-C, and its output becomes an SVG. Run it when the machine is otherwise idle, and once
before, so that nothing is downloaded.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from tools.documents import ROOT

PICTURE = ROOT / "docs" / "images" / "make-run.svg"
COLUMNS, ROWS = 112, 60
STORY_LINES = 14
"""Lines of the demo agent that are enough to see bookings come, move and go."""
LIMIT_SECONDS = 180.0
THEME = TerminalTheme(
    (13, 17, 23),
    (230, 237, 243),
    [(72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34), (88, 166, 255), (188, 140, 255), (57, 197, 207),
     (177, 186, 196)],
    [(110, 118, 129), (255, 161, 152), (86, 211, 100), (227, 179, 65), (121, 192, 255), (210, 168, 255),
     (86, 212, 221), (240, 246, 252)],
)  # fmt: skip
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_MOVES = re.compile(r"[^\n]*\r(?:\x1b\[K)(?=[^\n])")


def run_under_terminal(argv: list[str], *, until: int) -> str:
    """Run a command under a terminal until enough of the demo was told; return what was written.

    Raises:
        TimeoutError: it did not come so far within `LIMIT_SECONDS`.
        RuntimeError: it ended before; the message is what it said.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    child = subprocess.Popen(argv, cwd=ROOT, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    written, deadline, stopping = b"", time.monotonic() + LIMIT_SECONDS, False
    try:
        while time.monotonic() < deadline:
            if select.select([master], [], [], 0.2)[0]:
                try:
                    written += os.read(master, 65_536)
                except OSError:  # the terminal closes with its last user
                    text = written.decode("utf-8", "replace")
                    if stopping:
                        return text
                    raise RuntimeError(text) from None
            if not stopping and written.count("demo-agent │".encode()) >= until:
                os.killpg(child.pid, signal.SIGINT)
                stopping = True
        raise TimeoutError
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGINT)
        child.wait(30)
        os.close(master)


def draw(written: str, *, title: str) -> str:
    """Draw what a terminal showed; fonts are the reader's own, nothing is fetched."""
    shown = _MOVES.sub("", written.replace("\r\n", "\n")).replace("\r\x1b[K", "").rstrip()
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in ["\x1b[32m$\x1b[0m make run", *shown.split("\n")]:
        console.print(Text.from_ansi(line), soft_wrap=True)
    svg = console.export_svg(title=title, theme=THEME, unique_id="slotwire")
    mono = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
    return _FONTS.sub("", svg).replace("Fira Code, monospace", mono)


def main() -> None:
    """Record and write the picture and, beside it on standard output, the text."""
    written = run_under_terminal(["make", "run"], until=STORY_LINES)
    PICTURE.write_text(draw(written, title="make run"), encoding="utf-8")
    sys.stdout.write(written)
    sys.stderr.write(f"wrote {Path(PICTURE).relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
