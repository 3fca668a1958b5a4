"""The image, as far as it can be judged without an engine: what it copies, what it installs, who it runs as."""

from __future__ import annotations

import fnmatch
import importlib.metadata
import re
import tomllib

import grimp
import pytest

from tests.support.manifests import workloads
from tools.sources import PACKAGES, ROOT, repository_files

DOCKERFILE = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
INSTRUCTIONS = [line.split(maxsplit=1) for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]

FOUND_BY_OTHERS = {
    "cramjam": "aiokafka's codecs",
    "rich": "typer's help and errors",
    "tzdata": "zoneinfo, on a system without zones",
}
"""Dependencies that no module of ours imports, and who does."""


def instructions(name: str) -> list[str]:
    """Return the arguments of every instruction of a kind, in order."""
    return [rest for found, rest in INSTRUCTIONS if found == name]


def copied() -> set[str]:
    """Return what the build takes from the repository."""
    sources = (rest.split()[:-1] for rest in instructions("COPY") if not rest.startswith("--from"))
    return {source for found in sources for source in found}


def is_sent(path: str) -> bool:
    """Say whether a file is sent to the engine, by `.dockerignore`: the last pattern that fits decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        if line.startswith("#") or not line:
            continue
        if path == pattern or path.startswith(f"{pattern}/") or fnmatch.fnmatch(path, pattern):
            sent = line.startswith("!")
    return sent


def locked(name: str) -> dict[str, str]:
    """Return the versions a lock file pins, by normalized name."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    return {
        name.lower().replace("_", "-"): version
        for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE)
    }


def test_it_copies_what_is_there() -> None:
    """Every source of a COPY exists and is sent to the engine, and the three packages are among them."""
    assert {*PACKAGES, "src"} <= copied()
    for source in copied():
        assert (ROOT / source).exists(), source
        assert is_sent(source), source


def test_nothing_else_is_sent() -> None:
    """No history, test, secret or state folder reaches the engine."""
    for path in (
        "tests/conftest.py",
        ".env",
        ".git/config",
        ".slotwire/secrets",
        "k8s/base/serve.yaml",
        "compose.yaml",
    ):
        assert not is_sent(path), path
    sent = {path.as_posix() for path in repository_files() if is_sent(path.as_posix())}
    assert {path.partition("/")[0] for path in sent} == {source.partition("/")[0] for source in copied()}


def test_it_runs_as_nobody_in_particular() -> None:
    """The process has the number the manifests name, writes no byte code, and gets SIGTERM itself."""
    user = workloads()["serve"].pod["securityContext"]
    assert instructions("USER") == [f"{user['runAsUser']}:{user['runAsGroup']}"]
    assert instructions("ENTRYPOINT") == ['["slotwire"]']
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    assert instructions("HEALTHCHECK") == ["NONE"]
    assert "PYTHONDONTWRITEBYTECODE=1" in instructions("ENV")[-1]


def test_it_exposes_the_ports_of_the_processes() -> None:
    """The ports it tells of are those the manifests use, those of the components, too."""
    manifests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "k8s").rglob("*.yaml"))
    assert set(instructions("EXPOSE")[0].split()) == set(re.findall(r"containerPort: (\d+)", manifests))


def test_it_installs_hashed_requirements_only() -> None:
    """Every installation is pinned by hash, or takes the one wheel that was just built and nothing else."""
    commands = [part.strip() for rest in instructions("RUN") for part in rest.split("&&")]
    installs = [command for command in commands if "pip install" in command]
    assert len(installs) == 3
    for command in installs:
        assert "--require-hashes" in command or ("--no-deps" in command and "--no-index" in command), command
    assert "--index-url" not in DOCKERFILE


def test_it_can_send_traces() -> None:
    """The lock that the image installs holds the extra `traces`: an endpoint in the settings is enough."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[\[<>=~! ]", each)[0] for each in project["optional-dependencies"]["traces"]}
    assert "opentelemetry-sdk" in wanted
    assert wanted <= set(locked("runtime"))


def test_what_builds_it_is_locked() -> None:
    """The lock of the build holds the backend pyproject.toml asks for, in the versions of the other locks."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (backend,) = project["build-system"]["requires"]
    build, dev, runtime = locked("build"), locked("dev"), locked("runtime")
    assert backend == f"hatchling=={build['hatchling']}"
    assert build.items() <= dev.items()
    assert runtime.items() <= dev.items()


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Who imports what, packages of others included."""
    return grimp.build_graph("slotwire", include_external_packages=True, cache_dir=None)


EXTRAS = ("slotwire.ingest.local", "slotwire.ingest.foundation.tracing")


def test_what_the_processes_import_is_declared_and_locked(graph: grimp.ImportGraph) -> None:
    """Outside the embedded stack and tracing, which are extras, every import is a dependency of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[\[<>=~! ]", wanted)[0] for wanted in project["dependencies"]}
    owners = importlib.metadata.packages_distributions()
    imported: dict[str, set[str]] = {}
    for module in graph.modules:
        for other in graph.find_modules_directly_imported_by(module):
            if not other.startswith("slotwire.") and not module.startswith(EXTRAS):
                for owner in owners.get(other.partition(".")[0], []):
                    imported.setdefault(owner.lower().replace("_", "-"), set()).add(module)
    undeclared = {owner: min(modules) for owner, modules in imported.items() if owner not in declared}
    assert not undeclared, "declare it in pyproject.toml, then `make lock`"
    assert declared <= set(locked("runtime"))
    assert declared - set(imported) <= set(FOUND_BY_OTHERS), "nothing imports it: remove it"
