"""What a log line says of a defect: an exception that no code of ours foresaw."""

from __future__ import annotations

import traceback
from typing import TypedDict

FRAMES = 5
"""The innermost calls that are named."""


class Defect(TypedDict):
    """The fields of the log line."""

    error: str
    """The type of the exception."""
    where: list[str]
    """`FILE:LINE`, the innermost last."""


def defect(error: BaseException) -> Defect:
    """Say where a defect is. The exception's text is left out: it may quote a person's data, or a secret."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    return Defect(error=type(error).__name__, where=[f"{frame.filename}:{frame.lineno}" for frame in frames])
