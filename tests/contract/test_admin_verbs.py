"""Each operation asks for a role, and each change is in the audit under its own name; a new one cannot forget it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ACTIONS = Path(__file__).parents[2] / "ingest" / "operate" / "actions"
READS = {"list", "get", "find", "latest", "follow", "timeline", "count_waiting", "findings"}
READS |= {"intended", "named", "vault_use"}
"""Verbs that change nothing."""
BY_OTHERS = {
    "quarantine.retry_waiting": "self.retry(",
    "audit.refused": "audit.write(",
    "granted_calls.call": "self.audited(who, 'calendly.call'",
    "mcp_calls.call": "self.audited(grant.who, 'calendly.call'",
    "mcp_calls.act": "performed.create(",
}
"""Verbs that are in the audit by what they call."""


ASKS_NO_ROLE = {
    *("audit.refused", "granted_calls.find", "granted_calls.call", "granted_calls.intended"),
    *("mcp_calls.find", "mcp_calls.call", "mcp_calls.act"),
}
"""Verbs that are called because a role was too low, or for who has a grant and no key."""


def verbs() -> Iterator[tuple[str, str]]:
    """Give every method of every resource by `noun.verb`, with its source."""
    for file in ACTIONS.glob("*.py"):
        if file.stem in {"__init__", "base"}:
            continue
        classes = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
        for verb in (node for kind in classes for node in kind.body if isinstance(node, ast.AsyncFunctionDef)):
            yield f"{file.stem}.{verb.name}", ast.unparse(verb)


def test_every_verb_reads_or_is_audited_by_its_name() -> None:
    """Each public method of each resource is known to read only, or wraps its work in `audited` as `noun.verb`."""
    seen = set()
    for name, source in verbs():
        verb = name.partition(".")[2]
        if verb.startswith("_") or verb in READS:
            assert "audited(" not in source, f"{name}: it changes something, so it does not belong to READS"
            continue
        expected = BY_OTHERS.get(name, f"self.audited(who, '{name}'")
        assert expected in source, f"{name}: wrap what it does in `self.audited(who, '{name}', ...)`"
        seen.add(name)
    assert len(seen) > len(BY_OTHERS)


def test_every_verb_asks_for_a_role() -> None:
    """Each public method of each resource calls `who.require`, because a command comes past the routes' check."""
    public = {name: source for name, source in verbs() if not name.partition(".")[2].startswith("_")}
    without = {name for name, source in public.items() if "who.require(" not in source}
    assert without == ASKS_NO_ROLE
