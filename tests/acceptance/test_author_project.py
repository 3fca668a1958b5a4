"""A project with `handlers`, `schemas` and `ingest` packages of its own works beside Slotwire: wheel or checkout."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.checkers import mypy, pyright
from tests.support.packaging import Installation, build, environment, run
from tools.sources import ROOT

PROJECT = ROOT / "tests" / "support" / "author_project"
MODULES = len(list(PROJECT.rglob("*.py")))
ORIGIN = (
    "import slotwire.handlers.registry as r; a = r.load_agent('handlers.crm:agent'); import handlers, schemas, ingest;"
)


@dataclass(frozen=True)
class Author:
    """An author's machine.

    Attributes:
        project: the project's folder.
        wheel: the project's wheel.
        installation: an environment with Slotwire in it.
        slotwire: the environment's files with Slotwire installed, and nothing of the project.
        bare: its files before.
        cache: where mypy stores what it knows of the project, and of what all projects import.
    """

    project: Path
    wheel: Path
    installation: Installation
    slotwire: frozenset[str]
    bare: frozenset[str]
    cache: Path

    def run(self, *words: str, cwd: Path | None = None) -> str:
        """Run a program of the environment, in the project's folder unless another one is named."""
        return run([str(self.installation.python), *words], cwd=cwd or self.project)


@pytest.fixture(scope="module")
def project_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The author's wheel."""
    return build(PROJECT, tmp_path_factory.mktemp("author-wheel"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both environments share: links to what we have installed, and what mypy knows of it."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module", params=["wheel", "checkout"])
def author(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    slotwire_wheel: Path,
    project_wheel: Path,
    shared: Path,
) -> Author:
    """A copy of the project, and an environment with Slotwire: its wheel, or this checkout as an editable install."""
    folder = tmp_path_factory.mktemp("author")
    shutil.copytree(PROJECT, folder / "project", ignore=shutil.ignore_patterns("__pycache__"))
    installation = environment(
        folder, ["slotwire", "pytest", "pytest-asyncio", "hatchling", "editables"], shared / "linked"
    )
    bare = frozenset(installation.files())
    installation.install(*([str(slotwire_wheel)] if request.param == "wheel" else ["--editable", str(ROOT)]))
    files = frozenset(installation.files())
    return Author(folder / "project", project_wheel, installation, files, bare, shared / "mypy")


def test_slotwire_is_where_it_was_installed(author: Author, request: pytest.FixtureRequest) -> None:
    """The fixture is what it says: Slotwire comes from the wheel, or from this checkout."""
    place = author.run("-c", "import slotwire.handlers; print(slotwire.handlers.__file__)").strip()
    beside = author.installation.packages if "wheel" in request.node.name else ROOT / "src"
    assert place == str(beside / "slotwire" / "handlers" / "__init__.py")


def test_the_authors_agent_is_loaded_and_not_ours(author: Author, tmp_path: Path) -> None:
    """`handlers.crm:agent` is the author's: in the project's folder, and anywhere once the project is installed."""
    command = ("-m", "slotwire.ingest.cli", "agents", "list", "handlers.crm:agent")
    names = "print(a.name, handlers.__file__, schemas.__file__, ingest.__file__)"
    listed = author.run(*command)
    assert "crm  (handlers.crm:agent, group crm)" in listed
    assert "com.calendly.invitee.created.v1" in listed
    places = [str(author.project / name / "__init__.py") for name in ("handlers", "schemas", "ingest")]
    assert author.run("-c", f"{ORIGIN} {names}").split() == ["crm", *places]
    author.installation.install(str(author.wheel))
    assert author.run(*command, cwd=tmp_path) == listed
    places = [str(author.installation.packages / name / "__init__.py") for name in ("handlers", "schemas", "ingest")]
    assert author.run("-c", f"{ORIGIN} {names}", cwd=tmp_path).split() == ["crm", *places]
    author.installation.uninstall("author-agents")
    assert author.installation.files() == author.slotwire, "uninstalling the project leaves Slotwire as it was"


def test_a_new_project_is_made_and_its_agent_loads(author: Author, tmp_path: Path) -> None:
    """`slotwire agents new` has its files wherever Slotwire was installed from."""
    author.run("-m", "slotwire.ingest.cli", "agents", "new", "fresh", cwd=tmp_path)
    listed = author.run("-m", "slotwire.ingest.cli", "agents", "list", "fresh.agent:agent", cwd=tmp_path / "fresh")
    assert "fresh  (fresh.agent:agent, group fresh)" in listed


def test_it_type_checks_strictly(author: Author) -> None:
    """In strict mode mypy and pyright analyse all modules, without stubs for asyncpg, and find nothing."""
    python = author.installation.python
    assert "asyncpg-stubs" not in " ".join(author.installation.files())
    for found in (
        mypy(author.project, python=python, cache=author.cache),
        pyright(author.project, "--pythonpath", str(python)),
    ):
        assert not found.errors, found.text
        assert found.files == MODULES


def test_a_wrong_handler_in_it_is_found(author: Author) -> None:
    """The checkers see Slotwire's types from here: a handler of another class is an error where it is decorated."""
    module = author.project / "handlers" / "crm.py"
    right = module.read_text(encoding="utf-8")
    wrong = right.replace("event: Event[InviteeCreated]", "event: Event[InviteeCanceled]")
    line = wrong[: wrong.index("@agent.on(InviteeCreated)")].count("\n") + 1
    module.write_text(wrong, encoding="utf-8")
    try:
        assert ("crm.py", line, "arg-type") in mypy(
            author.project, python=author.installation.python, cache=author.cache
        ).errors
    finally:
        module.write_text(right, encoding="utf-8")


def test_its_own_tests_pass(author: Author) -> None:
    """The project's pytest runs its agent in a `Trial`."""
    assert "1 passed" in author.run("-m", "pytest", "-q", "-p", "no:cacheprovider")


def test_slotwire_leaves_and_the_project_stays(author: Author) -> None:
    """Uninstalling Slotwire removes its own files, and none of the project's."""
    author.installation.install(str(author.wheel))
    both = author.installation.files()
    author.installation.uninstall("slotwire")
    left = author.installation.files()
    assert left == both - (author.slotwire - author.bare)
    assert {f"handlers/{name}.py" for name in ("__init__", "crm")} <= {"/".join(Path(name).parts[-2:]) for name in left}
    assert author.run("-c", "import schemas.meeting; print(schemas.meeting.Meeting.__name__)") == "Meeting\n"
