"""A verb that changes something is in the audit under its own name, and a new one cannot forget to be."""

from __future__ import annotations

import ast
from pathlib import Path

ACTIONS = Path(__file__).parents[2] / "ingest" / "operate" / "actions"
READS = {"list", "get", "latest", "follow", "timeline", "count_waiting", "named", "vault_use"}
"""Verbs that change nothing."""
BY_OTHERS = {"quarantine.retry_waiting": "self.retry(", "audit.refused": "audit.write("}
"""Verbs that are in the audit by what they call."""


def test_every_verb_reads_or_is_audited_by_its_name() -> None:
    """Each public method of each noun is known to read only, or wraps its work in `audited` as `noun.verb`."""
    seen = set()
    for file in ACTIONS.glob("*.py"):
        if file.stem in {"__init__", "base"}:
            continue
        classes = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
        for verb in (node for kind in classes for node in kind.body if isinstance(node, ast.AsyncFunctionDef)):
            name, source = f"{file.stem}.{verb.name}", ast.unparse(verb)
            if verb.name.startswith("_") or verb.name in READS:
                assert "audited(" not in source, f"{name}: it changes something, so it does not belong to READS"
                continue
            expected = BY_OTHERS.get(name, f"self.audited(who, '{name}'")
            assert expected in source, f"{name}: wrap what it does in `self.audited(who, '{name}', ...)`"
            seen.add(name)
    assert len(seen) > len(BY_OTHERS)
