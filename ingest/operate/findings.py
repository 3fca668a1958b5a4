"""What the doctor says: one finding for each check."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.operate.models import Model

MAX_NAMED = 5
"""The most organizations or faults that one finding names."""


class Finding(Model):
    """The result of one check."""

    check: str
    """The name of the check."""
    state: Literal["ok", "warning", "failed"]
    """`failed` if something does not work or a promise does not hold."""
    message: str
    """What the check found."""
    remedy: str = Field("", exclude_if=lambda value: not value)
    """What to do about it."""


def ok(check: str, message: str) -> Finding:
    """Make the finding of a check that passed."""
    return Finding(check=check, state="ok", message=message)


def failed(check: str, error: SlotwireError) -> Finding:
    """Make the finding of a check that failed."""
    return Finding(check=check, state="failed", message=error.message, remedy=error.remedy)
