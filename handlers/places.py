"""Where in an author's own code an error was raised."""

from __future__ import annotations

import sysconfig
import traceback
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import FrameType

_OURS = tuple(str(Path(__file__).resolve().parents[1] / name) for name in ("handlers", "ingest", "schemas"))
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


@dataclass(frozen=True)
class CodePlace:
    """One line of code.

    Attributes:
        file: relative to the working directory where it is in it.
        line: its number, from 1.
        function: which it is in; empty for a file that cannot be read as Python.
        text: the line itself.
    """

    file: str
    line: int
    function: str
    text: str

    def __str__(self) -> str:
        """Return it as a person reads it: `crm/agent.py:21 in remember: await connection.execute(`."""
        inside = f" in {self.function}" if self.function else ""
        return f"{self.file}:{self.line}{inside}: {self.text}"


def own_places(error: BaseException) -> tuple[CodePlace, ...]:
    """Return the lines of an author's that an error came through, the innermost first; none if all are a library's.

    A line that calls itself again and again is there once.
    """
    found: list[CodePlace] = []
    if isinstance(error, SyntaxError) and error.filename and _is_own(error.filename):
        found.append(CodePlace(_short(error.filename), error.lineno or 1, "", (error.text or "").strip()))
    frames = reversed(traceback.extract_tb(error.__traceback__))
    found.extend(
        CodePlace(_short(frame.filename), frame.lineno or 1, frame.name, frame.line or "")
        for frame in frames
        if _is_own(frame.filename)
    )
    return tuple(place for place, _ in groupby(found))


def own_frame(frame: FrameType | None) -> str:
    """Return the innermost line of an author's that a frame came through: `crm/agent.py:21 remember`; else nothing."""
    while frame is not None:
        if _is_own(frame.f_code.co_filename):
            return line_of(frame)
        frame = frame.f_back
    return ""


def line_of(frame: FrameType | None) -> str:
    """Return the line that a frame is at, with what it is in."""
    if frame is None:
        return ""
    return f"{'/'.join(Path(frame.f_code.co_filename).parts[-2:])}:{frame.f_lineno} {frame.f_code.co_name}"


def described(error: BaseException) -> str:
    """Return an error as a person reads it: its class and its message, which may hold personal data."""
    try:
        text = (str(error).splitlines() or [""])[0]
    except Exception:  # noqa: BLE001 - an author's class
        text = "its message cannot be read"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_own(file: str) -> bool:
    if file.startswith("<") or file.endswith((".pyx", ".pxd", ".pxi")):  # compiled, without a folder
        return False
    path = str(Path(file).resolve())
    return not path.startswith(_OURS + _LIBRARIES)


def _short(file: str) -> str:
    path = Path(file).resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
