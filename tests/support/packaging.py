"""Builds wheels and installs them into throw-away environments, without network."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tools.sources import ROOT


@dataclass(frozen=True)
class Installation:
    """An environment of its own.

    Attributes:
        folder: the environment.
        packages: where pip puts packages.
    """

    folder: Path
    packages: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def install(self, *what: str) -> None:
        """Install wheels, or `--editable` a folder, and nothing that they depend on."""
        self._pip("install", "--no-deps", "--no-index", "--no-build-isolation", "--link-mode", "copy", *what)

    def uninstall(self, name: str) -> None:
        """Uninstall a distribution."""
        self._pip("uninstall", name)

    def _pip(self, verb: str, *arguments: str) -> None:
        # uv does here what pip does, in a twentieth of the time.
        options = ("--quiet", "--offline", "--no-cache", "--python", str(self.python))
        run([sys.executable, "-m", "uv", "pip", verb, *options, *arguments])

    def run(self, code: str) -> str:
        """Run a program in the environment, warnings being errors, and return what it wrote."""
        return run([str(self.python), "-I", "-W", "error", "-c", code])

    def files(self) -> set[str]:
        """List the files in the environment, relative to it, without those that Python compiled and uv's lock."""
        found = (path for path in self.folder.rglob("*") if path.is_file() and path.name != ".lock")
        found = (path for path in found if "__pycache__" not in path.parts)
        return {path.relative_to(self.folder).as_posix() for path in found}


def run(command: list[str], cwd: Path = ROOT) -> str:
    """Run a command that must succeed, and return what it wrote to its standard output."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(folder: Path, target: Path) -> Path:
    """Build the wheel of a project folder, without an environment of its own."""
    run([sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)], cwd=folder)
    [path] = target.glob("*.whl")
    return path


def environment(folder: Path, names: Iterable[str], linked: Path | None = None) -> Installation:
    """Make an environment that has some of the distributions installed here with all they need, by links to ours.

    Args:
        folder: where it is made.
        names: of the distributions.
        linked: the folder of the links, which others with the same distributions may share.
    """
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    packages = Path(run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip())
    linked = linked or folder / "linked"
    linked.mkdir(exist_ok=True)
    for name in set().union(*map(with_requirements, names)):
        distribution = importlib.metadata.distribution(name)
        for entry in {file.parts[0] for file in distribution.files or () if ".." not in file.parts}:
            link = linked / entry
            if entry != "__pycache__" and not link.exists():
                link.symlink_to(str(distribution.locate_file(entry)))
    (packages / "linked.pth").write_text(f"{linked}\n", encoding="utf-8")
    return Installation(folder / "env", packages)


def with_requirements(name: str, found: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return a distribution and all it needs here, extras and other platforms' requirements left out."""
    if name in found:
        return found
    found |= {name}
    for line in importlib.metadata.requires(name) or ():
        needed = re.split(r"[^\w.-]", line)[0]
        if "extra ==" not in line and is_installed(needed):
            found = with_requirements(needed, found)
    return found


def is_installed(name: str) -> bool:
    """Say whether a distribution is installed here."""
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
