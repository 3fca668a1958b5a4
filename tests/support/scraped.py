"""What a process's `/metrics` says, read as Prometheus reads it."""

from __future__ import annotations

import re


def families(text: str) -> dict[str, str]:
    """Return the types of all metrics by name, those without a value too."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


def sample(text: str, line: str) -> float | None:
    """Return the value of a series, named with its labels as it is written; None if it is not there."""
    found = re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
    return None if found is None else float(found[1])
