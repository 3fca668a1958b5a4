"""Agents and their references: what is wrong is said when the agent is made, in words that help."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from slotwire.handlers import Agent
from slotwire.handlers.registry import load_agent, load_agents
from slotwire.handlers.shipped_names import are_shipped, shipped_agents
from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.schemas.events import EventData, InviteeCanceled, InviteeCreated, RoutingFormSubmissionCreated
from slotwire.schemas.topics import INVITEE, ROUTING_FORM

MINE = """
from slotwire.handlers import Agent
from slotwire.schemas.events import InviteeCreated

agent = Agent("crm")
twin = Agent("crm")
idle = Agent("idle")
other = 1


@agent.on(InviteeCreated)
@twin.on(InviteeCreated)
async def handle(event, ctx):
    pass
"""


async def nothing(event: Any, ctx: Any) -> None:
    """A handler."""


def test_an_agent_knows_its_events_and_topics() -> None:
    """Events keep their order, topics come once, and the decorated function stays what it was."""
    agent = Agent("crm")
    assert agent.on(InviteeCreated, InviteeCanceled)(nothing) is nothing
    agent.on(RoutingFormSubmissionCreated)(nothing)
    assert agent.events == (InviteeCreated, InviteeCanceled, RoutingFormSubmissionCreated)
    assert agent.topics == (INVITEE, ROUTING_FORM)
    assert agent.handlers[InviteeCanceled.type] is nothing


@pytest.mark.parametrize("name", ["a", "a" * 63, "crm-2"])
def test_a_name_that_fits_is_taken(name: str) -> None:
    """Up to 63 lower-case letters, digits and dashes make a name."""
    assert Agent(name).name == name


@pytest.mark.parametrize("name", ["", "a" * 64, "CRM", "2crm", "a.b", "a b", "ä"])
def test_a_name_that_does_not_fit_is_refused(name: str) -> None:
    """What could not be part of a topic's name is refused when the agent is made."""
    with pytest.raises(ConfigurationError, match="cannot be an agent's name"):
        Agent(name)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ((), "names no event"),
        ((print,), "names no event"),  # `@agent.on` without brackets
        ((EventData,), "takes event classes"),
        (("InviteeCreated",), "takes event classes"),
    ],
)
def test_only_event_classes_are_taken(classes: tuple[Any, ...], words: str) -> None:
    """No class, a function, a base without a type and a string are refused."""
    with pytest.raises(ConfigurationError, match=words):
        Agent("a").on(*classes)


def test_an_event_has_one_handler() -> None:
    """Two handlers of one agent for one event would share its inbox row: the second is refused."""
    agent = Agent("a")
    agent.on(InviteeCreated)(nothing)
    with pytest.raises(ConfigurationError, match="two handlers for InviteeCreated"):
        agent.on(InviteeCreated)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"retry": 3}, "retry= takes a RetryPolicy, not 3"),
        ({"limit": 20}, "limit= takes a GiveUpLimit, not 20"),
        ({"timeout_seconds": "5"}, "cannot have a limit of '5' s"),
        ({"concurrency": "4"}, "cannot run '4' handlers at once"),
    ],
)
def test_what_is_of_another_kind_is_refused_before_any_event_comes(given: dict[str, Any], words: str) -> None:
    """With `retry=3` each event that fails would be given up as a defect of ours."""
    with pytest.raises(ConfigurationError, match=words):
        Agent("a", **given)


def test_what_is_nearly_right_says_what_to_write() -> None:
    """A handler that yields is told of it; brackets behind `on_start` are one of the usual slips."""
    agent: Any = Agent("a")

    async def yields(event: Any, ctx: Any) -> Any:
        yield event, ctx

    with pytest.raises(ConfigurationError, match="yields has a `yield`"):
        agent.on(InviteeCreated)(yields)
    with pytest.raises(ConfigurationError, match="a hook is an `async def` without parameters"):
        agent.on_start()


def test_a_handler_is_a_coroutine_function_of_two() -> None:
    """A plain function and one with other parameters are refused before any event comes."""

    def plain(event: Any, ctx: Any) -> None:
        del event, ctx

    async def lonely(event: Any) -> None:
        del event

    with pytest.raises(ConfigurationError, match="plain is not an `async def`"):
        Agent("a").on(InviteeCreated)(plain)  # type: ignore[arg-type]  # what is refused
    with pytest.raises(ConfigurationError, match=r"lonely does not take \(event, ctx\)"):
        Agent("a").on(InviteeCreated)(lonely)  # type: ignore[arg-type]  # what is refused


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with modules of a user's."""
    (tmp_path / "mine_crm.py").write_text(MINE)
    (tmp_path / "mine_needy.py").write_text("import surely_not_installed\n")
    (tmp_path / "mine_deep.py").write_text("def deeper():\n    deeper()\n\n\ndeeper()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_an_agent_is_found_in_the_working_directory(modules: Path) -> None:
    """A module beside the user is found without installing it."""
    del modules
    assert load_agent("mine_crm:agent").name == "crm"


@pytest.mark.parametrize(
    ("reference", "message", "remedy"),
    [
        ("mine_crm", "does not name an agent", "package.module:agent"),
        ("mine_crm:", "does not name an agent", "package.module:agent"),
        ("absent_module:agent", "no module absent_module", "can be imported"),
        ("./mine/crm.py:agent", "./mine/crm.py is a file", "Name the module in it: mine.crm:agent"),
        ("mine_needy:agent", "needs the module surely_not_installed", "Install it"),
        ("mine_crm:other", "has no agent called other", "agent, twin, idle"),
        ("mine_crm:idle", "has no handler", "@agent.on"),
        ("mine_deep:agent", "RecursionError", "mine_deep.py:2 in deeper"),
    ],
)
def test_a_wrong_reference_says_what_to_do(modules: Path, reference: str, message: str, remedy: str) -> None:
    """Every way to name no agent gets its own words."""
    del modules
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_agent(reference)
    assert remedy in caught.value.remedy
    assert caught.value.remedy.count("\n") < 10, "it fits on a screen"


def test_two_agents_of_one_name_are_refused(modules: Path) -> None:
    """Two agents of one name would be one consumer group that tears itself apart."""
    del modules
    with pytest.raises(ConfigurationError, match="two of the agents are called crm"):
        load_agents(["mine_crm:agent", "mine_crm:twin"])


def test_the_shipped_agents_can_be_loaded() -> None:
    """Whatever is in slotwire.handlers.agents has an `agent` that handles something."""
    references = shipped_agents()
    assert "slotwire.handlers.agents.demo:agent" in references
    assert all(load_agent(reference).handlers for reference in references)


def test_a_shipped_agent_has_a_bare_name(modules: Path) -> None:
    """`notify` names the agent that comes with Slotwire, beside a user's own; only of those alone is it said so."""
    del modules
    assert load_agent("notify").reference == "slotwire.handlers.agents.notify:agent"
    assert are_shipped(["notify", "slotwire.handlers.agents.demo:json_agent"])
    assert not are_shipped(["notify", "mine_crm:agent"])
