"""`slotwire agents new`, and what an author sees of mistakes."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slotwire.handlers import Agent, Context, Event
from slotwire.handlers.author.dev import look_at
from slotwire.handlers.author.new_project import MAX_NAME, make_project
from slotwire.handlers.author.shown_runs import ShownRuns
from slotwire.handlers.places import described, own_places
from slotwire.handlers.policy import RetryPolicy
from slotwire.handlers.registry import load_agent
from slotwire.handlers.testing import Trial
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.ingest.foundation.local_stack import loading
from slotwire.ingest.foundation.postgres_address import parse_address
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.schemas.events import InviteeCreated
from tests.support.agent_setup import invitee_created


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The author's working directory; modules of it are forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_the_project_is_whole_and_loads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Handler, migration, test and settings of a project have the agent's name, and the agent loads."""
    made = make_project("no-show-calls", folder)
    assert {str(path) for path in made} >= {
        "no-show-calls/no_show_calls/agent.py",
        "no-show-calls/no_show_calls/migrations/0001_meetings.sql",
        "no-show-calls/tests/test_agent.py",
        "no-show-calls/pyproject.toml",
    }
    for path in made:
        text = (folder / path).read_text()
        assert "{{" not in text
        assert "PACKAGE" not in text
    monkeypatch.chdir(folder / "no-show-calls")
    agent = load_agent("no_show_calls.agent:agent")
    assert (agent.name, agent.version, len(agent.handlers)) == ("no-show-calls", "1", 2)
    assert agent.home == folder / "no-show-calls" / "no_show_calls"


@pytest.mark.parametrize("name", ["Crm", "crm_", "a" * (MAX_NAME + 1), "class", "email", "json", "slotwire", "pytest"])
def test_a_name_that_cannot_be_is_refused(name: str, folder: Path) -> None:
    """Nothing is made for a name that is no agent's, a word of Python's, or a module's that is there."""
    with pytest.raises(ConfigurationError):
        make_project(name, folder)
    assert not list(folder.iterdir())


def test_a_folder_that_is_there_is_left_alone(folder: Path) -> None:
    """A second `new` of one name changes nothing."""
    (folder / "crm").mkdir()
    with pytest.raises(ConfigurationError, match="is there already"):
        make_project("crm", folder)
    assert not list((folder / "crm").iterdir())
    assert len(make_project("a" * MAX_NAME, folder)) == 7


@pytest.mark.parametrize(
    ("source", "message", "place"),
    [
        (
            "import json\n\nLIMIT = json.loads('{')\n",
            "JSONDecodeError: Expecting",
            "mine_broken.py:3 in <module>: LIMIT",
        ),
        ("agent = 1\nasync def f(:\n", "SyntaxError: invalid syntax", "mine_broken.py:2: async def f(:"),
        ("import sys\n\nLIMIT = sys.exit('no key')\n", "SystemExit: no key", "mine_broken.py:3 in <module>: LIMIT"),
        (
            "class Odd(BaseException):\n    def __str__(self):\n        raise LookupError\n\n\nLIMIT = 0\nraise Odd\n",
            "Odd: its message cannot be read",
            "mine_broken.py:7 in <module>: raise Odd",
        ),
    ],
    ids=["raises", "syntax", "exits", "odd"],
)
def test_a_module_that_fails_names_the_authors_line(folder: Path, source: str, message: str, place: str) -> None:
    """The exception's message and the author's own line, whatever library it was raised in."""
    (folder / "mine_broken.py").write_text(source)
    with pytest.raises(ConfigurationError) as caught:
        load_agent("mine_broken:agent")
    assert message in caught.value.message
    assert caught.value.remedy.startswith(place)
    assert "json" not in caught.value.remedy.partition("LIMIT")[0]


def test_a_refusal_of_what_is_declared_names_the_authors_line(folder: Path) -> None:
    """Whatever an agent's module declares wrongly is told with what to write and where."""
    (folder / "mine_refused.py").write_text(
        "from slotwire.handlers import Agent\n\nagent = Agent('mine')\n\n\n"
        "@agent.on('invitee.created')\nasync def handle(event, ctx): ...\n"
    )
    with pytest.raises(ConfigurationError, match="takes event classes") as caught:
        load_agent("mine_refused:agent")
    assert caught.value.remedy.startswith("Import one from slotwire.schemas.events")
    assert caught.value.remedy.splitlines()[-1] == "mine_refused.py:6 in <module>: @agent.on('invitee.created')"


def test_own_places_are_the_authors_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an error that a library raised, one that is compiled too, the author's lines, the innermost first."""
    (folder / "mine_steps.py").write_text(
        "import json\n\ndef inner():\n    return json.loads('[')\n\ndef outer():\n    return inner()\n"
    )
    monkeypatch.syspath_prepend(folder)
    steps = importlib.import_module("mine_steps")
    compiled: dict[str, Any] = {}
    exec(compile("def fail():\n    raise ValueError", "driver/protocol.pyx", "exec"), compiled)  # noqa: S102 -- as a compiler of C does
    with pytest.raises(ValueError) as failed:  # noqa: PT011 -- it says nothing
        compiled["fail"]()
    assert "pyx" not in str(own_places(failed.value))
    with pytest.raises(json.JSONDecodeError) as caught:
        steps.outer()
    mine = [str(place) for place in own_places(caught.value) if place.file == "mine_steps.py"]
    assert mine == ["mine_steps.py:4 in inner: return json.loads('[')", "mine_steps.py:7 in outer: return inner()"]
    assert described(caught.value).startswith("JSONDecodeError: Expecting value")


def test_a_remedy_names_the_settings_of_the_local_stack(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has a local stack and forgot its settings is told how they are loaded; others are not."""
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    assert loading() == ""
    (file := folder / "slotwire" / "local" / "slotwire.env").parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(ConfigurationError, match="SLOTWIRE_DATABASE_URL is not set") as caught:
        parse_address("", setting="SLOTWIRE_DATABASE_URL", settings=DatabaseSettings())
    assert caught.value.remedy.endswith(f"set -a; . {file}; set +a")


def test_the_files_that_are_watched_are_the_agents(folder: Path) -> None:
    """Python and SQL, but not those of environments, hidden folders and caches."""
    for name in (
        "crm/agent.py",
        "crm/migrations/1.sql",
        "notes.txt",
        ".git/hook.py",
        "env/lib/x.py",
        "__pycache__/y.py",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "env" / "pyvenv.cfg").touch()
    assert {str(path.relative_to(folder)) for path in look_at(folder)} == {"crm/agent.py", "crm/migrations/1.sql"}


async def test_an_error_is_shown_in_a_few_lines_that_a_terminal_obeys_nothing_of() -> None:
    """Of a group what it holds, of a recursion its line once; what a stranger typed controls no terminal."""
    shown: list[str] = []
    agent = Agent("crm", retry=RetryPolicy(attempts=1))

    def deeper() -> None:
        deeper()

    async def fails() -> None:
        raise ValueError("typed \x1b[31mby a stranger")

    @agent.on(InviteeCreated)
    async def handle(event: Event[InviteeCreated], ctx: Context) -> None:
        if event.sequence == 1:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
        if event.sequence == 2:
            deeper()
        await ctx.step("large", large)

    async def large(key: str) -> str:
        return key * 100_000

    report = ShownRuns(SystemClock(), shown.append)
    trial = Trial(agent)
    trial._handling._show = report
    await trial.deliver(*(invitee_created(f"k{number}", number) for number in (1, 2, 3)))
    text = "\n".join(shown)
    assert re.search(
        r"    - ValueError: typed .\[31mby a stranger\n      \S+test_author_project.py:\d+ in fails: raise", text
    )
    assert text.count("in deeper: deeper()") == 1
    assert "held for a person: step 'large' returned 4600002 bytes of JSON" in text
    assert text.replace("\n", "").isprintable()
