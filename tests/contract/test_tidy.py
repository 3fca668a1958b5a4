"""Style is a test: the repository keeps the rules of `tests/support/tidy.py`, and each rule is shown to bite."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support import tidy
from tests.support.tidy import (
    CROSS_FILE_RULES,
    MACHINE_PATHS,
    MAX_FUNCTION_LINES,
    MAX_MODULE_LINES,
    REGISTRY_HOSTS,
    RULES,
    CrossFileRule,
    Rule,
    SourceFile,
)
from tools.sources import ROOT, repository_files

HASH = "    --hash=sha256:" + "0" * 64 + "\n"
# Parts, so that this file keeps the rules it plants violations of.
IGNORE, NOQA, PRAGMA = "# type: " + "ignore", "# no" + "qa", "# pragma: " + "no cover"


LISTING = '"""Files:\n\n' + "one  a file of this package that has a line\n" * 5 + '*_models  all of these\n"""\n'


def function(lines: int) -> str:
    """Write a function of so many lines."""
    return "def long() -> None:\n" + "    pass\n" * (lines - 1)


# For each rule: files that break it, and files just inside it.
PLANTED: dict[Rule, tuple[Sequence[SourceFile], Sequence[SourceFile]]] = {
    tidy.short_functions: (
        [
            SourceFile("ingest/a.py", function(MAX_FUNCTION_LINES + 1)),
            SourceFile("tests/a.py", "async " + function(MAX_FUNCTION_LINES + 1)),
        ],
        [SourceFile("ingest/a.py", function(MAX_FUNCTION_LINES))],
    ),
    tidy.short_modules: (
        [SourceFile("ingest/a.py", "\n" * (MAX_MODULE_LINES + 1))],
        [SourceFile("ingest/a.py", "\n" * MAX_MODULE_LINES), SourceFile("a.sql", "\n" * (MAX_MODULE_LINES + 1))],
    ),
    tidy.telling_names: (
        [
            SourceFile("ingest/utils.py", ""),
            SourceFile("tests/helpers/a.py", ""),
            SourceFile("ingest/common/__init__.py", ""),
            SourceFile("docs/misc.md", ""),
        ],
        [SourceFile("ingest/commonplace.py", "")],
    ),
    tidy.settings_are_passed: (
        [
            SourceFile("ingest/a.py", "import os\nvalue = os.environ['A']\n"),
            SourceFile("handlers/a.py", "import os\nvalue = os.getenv('A')\n"),
            SourceFile("schemas/a.py", "from os import environ\n"),
        ],
        [
            SourceFile("ingest/foundation/settings.py", "import os\nvalue = os.environ['A']\n"),
            SourceFile("tests/a.py", "import os\nvalue = os.environ['A']\n"),
            SourceFile("ingest/a.py", "from os import sched_getaffinity\n"),
        ],
    ),
    tidy.pools_are_opened_in_roots: (
        [
            SourceFile("ingest/operate/actions/a.py", "async with create_pool(dsn) as pool: ...\n"),
            SourceFile("handlers/a.py", "pool = postgres.create_pool(dsn)\n"),
        ],
        [
            SourceFile("ingest/relay/process.py", "pool = create_pool(dsn)\n"),
            SourceFile("ingest/foundation/postgres.py", "pool = asyncpg.create_pool(dsn)\n"),
            SourceFile("tests/a.py", "pool = create_pool(dsn)\n"),
        ],
    ),
    tidy.agents_tell_outages: (
        [
            SourceFile(
                "handlers/agents/a.py", "async with ctx.transaction() as c:\n    await agent.stores.pool.execute(q)\n"
            ),
            SourceFile("handlers/agents/a/b.py", "with translated(): ...\nawait pool.fetchrow(q)\n"),
        ],
        [
            SourceFile("handlers/agents/a.py", "with translated():\n    rows = [r for r in await pool.fetch(q)]\n"),
            SourceFile("handlers/agents/b.py", "async with ctx.transaction() as c:\n    await c.execute(q)\n"),
            SourceFile("handlers/settle/a.py", "await pool.fetch(q)\n"),
        ],
    ),
    tidy.only_verification_mints: (
        [
            SourceFile("ingest/log/a.py", "made = VerifiedDelivery(a, b)\n"),
            SourceFile("tests/a.py", "made = verify.VerifiedDelivery(a, b)\n"),
            SourceFile("ingest/log/a.py", "other = delivery._replace(content_encoding='')\n"),
        ],
        [
            SourceFile("ingest/receive/verify.py", "made = VerifiedDelivery(a, b)\n"),
            SourceFile("ingest/log/a.py", "row = row._replace(revision=1)\nvalue: VerifiedDelivery\n"),
        ],
    ),
    tidy.tests_say_what_they_prove: (
        [SourceFile("tests/unit/test_a.py", "async def test_a():\n    assert 1\n")],
        [
            SourceFile("tests/unit/test_a.py", 'def test_a():\n    """Proves."""\n'),
            SourceFile("tests/a.py", "def a(): 1"),
        ],
    ),
    tidy.tests_prove_something: (
        [
            SourceFile("tests/unit/test_a.py", 'def test_a():\n    """Proves."""\n    print(1)\n'),
            SourceFile("tests/unit/test_a.py", "def test_a():\n    check()\n\n\ndef check():\n    check()\n"),
        ],
        [
            SourceFile("tests/unit/test_a.py", "def test_a():\n    assert 1\n"),
            SourceFile(
                "tests/unit/test_a.py", "def test_a():\n    with pytest.raises(ValueError):\n        int('a')\n"
            ),
        ],
    ),
    tidy.nothing_sleeps: (
        [
            SourceFile("ingest/a.py", "time.sleep(0.01)\n"),
            SourceFile("tests/acceptance/a.py", "def a():\n    time.sleep(0.01)\n"),
            SourceFile("tests/a.py", "async def a():\n    await asyncio.sleep(0.01)\n"),
            SourceFile("tests/a.py", "async def a():\n    while not b:\n        await asyncio.sleep(0.06)\n"),
        ],
        [
            SourceFile("ingest/a.py", "async def a():\n    await asyncio.sleep(60)\n"),
            SourceFile("tests/a.py", "async def a():\n    while not b:\n        await asyncio.sleep(0.05)\n"),
            SourceFile("tests/a.py", "async def a():\n    await asyncio.sleep(0)\n"),
            SourceFile("tests/acceptance/a.py", "async def a():\n    await asyncio.sleep(1)\n"),
            SourceFile("tests/acceptance/a.py", "def a():\n    while not b:\n        time.sleep(0.05)\n"),
        ],
    ),
    tidy.nothing_is_skipped: (
        [
            SourceFile("tests/unit/test_a.py", "@pytest.mark.skip\ndef test_a(): ...\n"),
            SourceFile("tests/unit/test_a.py", "@pytest.mark.xfail(reason='')\ndef test_a(): ...\n"),
            SourceFile("tests/unit/test_a.py", "aiohttp = pytest.importorskip('aiohttp')\n"),
        ],
        [SourceFile("tests/unit/test_a.py", "@pytest.mark.soak\ndef test_a(): ...\n")],
    ),
    tidy.no_registry_is_named: (
        [SourceFile("Dockerfile", f"RUN curl https://{host}/simple") for host in REGISTRY_HOSTS],
        [SourceFile("Dockerfile", "FROM python:3.12-slim")],
    ),
    tidy.no_machine_is_named: (
        [SourceFile("docs/a.md", f"see `{path}notes`") for path in MACHINE_PATHS],
        [
            SourceFile("docs/a.md", "see docs" + MACHINE_PATHS[0]),
            SourceFile("a.yaml", "path: /var/lib" + MACHINE_PATHS[0]),
        ],
    ),
    tidy.exceptions_have_reasons: (
        [
            SourceFile("ingest/a.py", f"import a  {NOQA}\n"),
            SourceFile("ingest/a.py", f"import a  {NOQA}: F401\n"),
            SourceFile("ingest/a.py", f"import a  {NOQA}  # used by name\n"),
            SourceFile("ingest/a.py", f"import a  {IGNORE}\n"),
            SourceFile("ingest/a.py", f"import a  {IGNORE}[import-untyped]\n"),
            SourceFile("ingest/a.py", f"import a  {PRAGMA}\n"),
        ],
        [
            SourceFile("ingest/a.py", f"import a  {NOQA}: F401, E402 - used by name\n"),
            SourceFile("ingest/a.py", f"import a  {IGNORE}[import-untyped]  # it ships no types\n"),
            SourceFile("ingest/a.py", f"import a  {PRAGMA} - only on Windows\n"),
        ],
    ),
    tidy.no_merge_markers: (
        [
            SourceFile("a.md", sign * 7 + rest)
            for sign, rest in (("<", " HEAD"), (">", " main"), ("=", ""), ("|", " x"))
        ],
        [SourceFile("a.md", "=" * 8), SourceFile("a.md", "Title\n=====")],
    ),
    tidy.nothing_is_left_to_do: (
        [SourceFile("a.py", "# TO" + "DO: later"), SourceFile("a.sql", "-- FIX" + "ME")],
        [SourceFile("a.md", "nothing is left to do")],
    ),
    tidy.only_example_people: (
        [SourceFile("a.md", "mail ada@" + "slotwire.dev")],
        [
            SourceFile("a.md", "mail ada@example.com, bob@mail.example.org"),
            SourceFile("a.yaml", "a@sha256:0"),
            SourceFile("a.md", "\\n@agent.on(InviteeCreated)"),
        ],
    ),
    tidy.locks_hold_hashes: (
        [
            SourceFile("requirements/a.lock", "--index-url https://mirror.example.com\n"),
            SourceFile("requirements/a.lock", "aiohttp==3.14.5\n"),
            SourceFile("requirements/a.lock", "aiohttp>=3.14.5 \\\n" + HASH),
        ],
        [SourceFile("requirements/a.lock", "aiohttp==3.14.5 \\\n" + HASH), SourceFile("a.md", "https://example.com")],
    ),
}


# The same for the rules over several files: sets of files that break one, and sets that do not.
PLANTED_ACROSS: dict[CrossFileRule, tuple[Sequence[Sequence[SourceFile]], Sequence[Sequence[SourceFile]]]] = {
    tidy.packages_list_their_files: (
        [
            [SourceFile("ingest/b/__init__.py", LISTING), SourceFile("ingest/b/two.py", "")],
            [
                SourceFile("ingest/b/__init__.py", LISTING),
                SourceFile("ingest/b/one.py", ""),
                SourceFile("ingest/b/on.py", ""),
            ],
        ],
        [
            [SourceFile("ingest/b/__init__.py", LISTING), SourceFile("ingest/b/one.py", "")],
            [SourceFile("ingest/b/__init__.py", LISTING), SourceFile("ingest/b/any_models.py", "")],
            [SourceFile("ingest/b/__init__.py", '"""Small."""'), SourceFile("ingest/b/two.py", "")],
            [SourceFile("tests/b/__init__.py", LISTING), SourceFile("tests/b/two.py", "")],
        ],
    ),
    tidy.class_names_are_unique: (
        [
            [SourceFile("ingest/a.py", "class Group: ...\n"), SourceFile("handlers/a.py", "class Group: ...\n")],
            [
                SourceFile("ingest/a.py", "class _Made: ...\n"),
                SourceFile("schemas/b/c.py", "\n\nclass _Made(A): ...\n"),
            ],
        ],
        [
            [SourceFile("ingest/a.py", "class Group: ...\n"), SourceFile("ingest/b.py", "class RoleGroup: ...\n")],
            [SourceFile("ingest/a.py", "class Group: ...\n"), SourceFile("tests/a.py", "class Group: ...\n")],
            [
                SourceFile("ingest/a.py", "class A:\n    class Config: ...\n"),
                SourceFile("ingest/b.py", "class Config: ...\n"),
            ],
        ],
    ),
}


@pytest.fixture(scope="module")
def sources() -> list[SourceFile]:
    """Every file of the repository, read once."""
    return [SourceFile.read(ROOT, path) for path in repository_files()]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_repository_is_tidy(rule: Rule, sources: list[SourceFile]) -> None:
    """Every file keeps the rule; a finding says where, what, and which form is better."""
    found = [f"{file.path}:{line}: {message}" for file in sources for line, message in rule(file)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_rule_bites(rule: Rule) -> None:
    """A planted violation is found once, with a message that names the better form; its neighbour inside is not."""
    broken, kept = PLANTED[rule]
    for file in broken:
        messages = [message for _, message in rule(file)]
        assert len(messages) == 1, (file, messages)
        assert ":" in messages[0]
    for file in kept:
        assert not list(rule(file)), file


@pytest.mark.parametrize("rule", CROSS_FILE_RULES, ids=lambda rule: rule.__name__)
def test_the_files_of_the_repository_agree(rule: CrossFileRule, sources: list[SourceFile]) -> None:
    """All files together keep the rule; a finding says where, what, and which form is better."""
    found = [f"{file.path}:{line}: {message}" for file, (line, message) in rule(sources)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("rule", CROSS_FILE_RULES, ids=lambda rule: rule.__name__)
def test_every_rule_over_several_files_bites(rule: CrossFileRule) -> None:
    """In a set of files that breaks the rule the last one is found, with the better form; the others are clean."""
    broken, kept = PLANTED_ACROSS[rule]
    for files in broken:
        assert [(file.path, ":" in message) for file, (_, message) in rule(files)] == [(files[-1].path, True)]
    for files in kept:
        assert not list(rule(files)), files


def test_the_rules_see_the_whole_repository(sources: list[SourceFile]) -> None:
    """The listing holds code, tests, manifests and this very file, and nothing that git ignores."""
    paths = {file.path for file in sources}
    assert {"pyproject.toml", "ingest/receive/accept.py", "schemas/topics.py", "tests/contract/test_tidy.py"} <= paths
    assert not any(".venv" in path or "__pycache__" in path for path in paths)
