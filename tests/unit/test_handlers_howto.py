"""The how-to's code is code: its agent can be loaded and its test passes."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from slotwire.handlers.registry import load_agent
from slotwire.schemas.events import InviteeCanceled, InviteeCreated

HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "write-an-agent.md"


@dataclass(frozen=True)
class Answer:
    """What the example's CRM answers."""

    status: int


class Crm:
    """The example's CRM, which knows no meeting."""

    async def cancel(self, uri: str, *, idempotency_key: str) -> Answer:
        """Find nothing."""
        assert uri
        assert idempotency_key
        return Answer(404)


async def test_the_howtos_agent_and_its_test_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first block makes an agent that loads by its reference, and the last one is a test that passes."""
    blocks = re.findall(r"```python\n(.*?)```", HOWTO.read_text(encoding="utf-8"), flags=re.DOTALL)
    package = tmp_path / "my_agents"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "crm.py").write_text(blocks[0])
    (package / "test_crm.py").write_text(blocks[-1])
    compile(blocks[1], "the policy", "exec")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    try:
        agent = load_agent("my_agents.crm:agent")
        assert agent.events == (InviteeCreated, InviteeCanceled)
        vars(sys.modules["my_agents.crm"])["crm"] = Crm()
        await importlib.import_module("my_agents.test_crm").test_an_unknown_meeting_is_rejected()
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "my_agents"]:
            del sys.modules[name]
