"""The how-to's code is code: its agents load, its error is the real one, and its test passes."""

from __future__ import annotations

import importlib
import re
import sys
import textwrap
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from unittest.mock import AsyncMock

import pytest

from slotwire.handlers import Agent, BookingSnapshot, RunToken
from slotwire.handlers.registry import load_agent
from slotwire.handlers.testing import RecordStatus, Trial, TrialClock, event_of
from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.schemas.events import BookingState, InviteeCanceled, InviteeCreated

HOWTO = (Path(__file__).parents[2] / "docs" / "howto" / "write-an-agent.md").read_text(encoding="utf-8")
CRM, TYPES, KNOWS, READS, ACTS, MODEL, POLICY, TEST = re.findall(
    r"^```python\n(.*?)^```", HOWTO, flags=re.DOTALL | re.MULTILINE
)
[SAVEPOINT] = re.findall(r"^  ```python\n(.*?)^  ```", HOWTO, flags=re.DOTALL | re.MULTILINE)


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


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package of an author, `my_agents`, in the working directory; forgotten after the test."""
    folder = tmp_path / "my_agents"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_agents"]:
        del sys.modules[name]


async def test_the_howtos_agent_and_its_test_work(package: Path) -> None:
    """The first block makes an agent that loads by its reference, and the last one is a test that passes."""
    (package / "crm.py").write_text(CRM)
    (package / "test_crm.py").write_text(TEST)
    agent = load_agent("my_agents.crm:agent")
    assert agent.events == (InviteeCreated, InviteeCanceled)
    vars(sys.modules["my_agents.crm"])["crm"] = Crm()
    await importlib.import_module("my_agents.test_crm").test_an_unknown_meeting_is_rejected()


async def test_what_a_handler_knows_is_there(package: Path) -> None:
    """The agents of the sections on the context and on Calendly load, and do what the page says."""
    (package / "keeper.py").write_text(KNOWS)
    (package / "planner.py").write_text(READS)
    uri = "https://api.calendly.com/scheduled_events/E/invitees/I"
    canceled = InviteeCanceled(uri=uri, booking=BookingState(state="canceled", revision=2, chain_root=uri))
    keeper = Trial(load_agent("my_agents.keeper:agent"), connection=object())
    keeper.chains.known["TRIAL", uri] = (BookingSnapshot("before", "canceled"), BookingSnapshot(uri, "canceled"))
    results = await keeper.deliver(event_of(canceled), event_of(canceled, sequence=2))
    assert {result.status for result in results} == {RecordStatus.DONE}
    assert keeper.chains.remembered == {("TRIAL", uri): '{"canceled": 2, "moved": 1}'}
    created = InviteeCreated(uri=uri, booking=BookingState(state="active", revision=1, chain_root=uri))
    planner = Trial(load_agent("my_agents.planner:agent"))
    planner.calendly.answers["list-user-busy-times"] = []
    [result] = await planner.deliver(event_of(created))
    assert result.status is RecordStatus.DONE
    (package / "bouncer.py").write_text(ACTS)
    bouncer = Trial(load_agent("my_agents.bouncer:agent"))
    bouncer.calendly.answers["cancel"] = {"state": "done"}
    results = await bouncer.deliver(event_of(created), event_of(created, sequence=2, origin="backfill"))
    assert {each.status for each in results} == {RecordStatus.DONE, RecordStatus.FILTERED}
    assert bouncer.calendly.acted == [("cancel", {"verb": "cancel", "reason": "We are closed that day"})]


async def test_a_trial_has_a_token_where_a_test_sets_it(package: Path) -> None:
    """Without one it is refused, with what to set; with one the agent works, and the run has ended afterwards."""
    (package / "concierge.py").write_text(MODEL)
    uri = "https://api.calendly.com/scheduled_events/E/invitees/I"
    created = InviteeCreated(uri=uri, booking=BookingState(state="active", revision=1, chain_root=uri))
    trial = Trial(load_agent("my_agents.concierge:agent"), clock=TrialClock())
    module = vars(sys.modules["my_agents.concierge"])
    used: list[tuple[object, int]] = []

    def noted(headers: object) -> nullcontext[None]:
        used.append((headers, len(trial.calendly.mcp_runs)))
        return nullcontext()

    module |= {"create_mcp_http_client": noted, "streamable_http_client": lambda url, **_: url}
    module |= {"Client": nullcontext, "model": AsyncMock()}
    [result] = await trial.deliver(event_of(created))
    assert result.status is RecordStatus.DEAD_LETTERED
    trial.calendly.mcp = RunToken("https://mcp.test/mcp/tools", "slwr_x", TrialClock().now() + timedelta(minutes=15))
    [result] = await trial.deliver(event_of(created, sequence=2))
    assert (result.status, used) == (RecordStatus.DONE, [({"Authorization": "Bearer slwr_x"}, 1)])
    assert trial.calendly.mcp_runs == set()


async def test_handlers_of_several_classes_work(package: Path) -> None:
    """Both agents of the section on types load and take both events."""
    (package / "several.py").write_text(TYPES)
    uri = "https://api.calendly.com/scheduled_events/E/invitees/I"
    active = BookingState(state="active", revision=1, chain_root=uri)
    canceled = BookingState(state="canceled", revision=2, chain_root=uri)
    events = (
        event_of(InviteeCreated(uri=uri, booking=active)),
        event_of(InviteeCanceled(uri=uri, booking=canceled), sequence=2),
    )
    for name in ("agent", "other"):
        results = await Trial(load_agent(f"my_agents.several:{name}")).deliver(*events)
        assert [result.status for result in results] == [RecordStatus.DONE, RecordStatus.DONE]


def test_the_shown_policy_is_the_default() -> None:
    """The values of the block about the policy are those an agent has without it."""
    module = ModuleType("policy")
    exec("from slotwire.handlers import Agent\n" + POLICY, vars(module))  # noqa: S102 - it is our own document
    shown, default = module.agent, Agent("crm")
    assert (shown.retry, shown.limit, shown.timeout_seconds) == (default.retry, default.limit, default.timeout_seconds)


def test_the_shown_error_is_the_real_one(package: Path) -> None:
    """A handler of another class than its decorator's gets the error that the page shows."""
    wrong = CRM.replace("tell_the_crm(event: Event[InviteeCanceled]", "tell_the_crm(event: Event[InviteeCreated]")
    assert wrong != CRM
    (package / "wrong.py").write_text(wrong)
    with pytest.raises(ConfigurationError) as caught:
        load_agent("my_agents.wrong:agent")
    remedy = textwrap.indent(caught.value.remedy, "  ")
    assert f"slotwire: {caught.value.message}\n{remedy}\n" in HOWTO


async def test_the_savepoint_of_the_page_compiles_and_undoes_a_part() -> None:
    """It is the way that tests/integration/test_handlers_transactions.py proves on a real Postgres."""
    assert "async with connection.transaction():" in SAVEPOINT
    compile(
        "async def part(connection, event):\n" + textwrap.indent(textwrap.dedent(SAVEPOINT), "    "), "page", "exec"
    )
