"""`python -m tools.release`: build the release of the last commit into `dist/`.

Images that are not pinned yet are pinned first. If no registry can be reached, that is said, and the release goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

from tools.release.bill import Wheel, bill_of_materials, requirement_name
from tools.release.images import add_registries, pin, registries, unpinned_files
from tools.release.lock import read_lock
from tools.release.wheels import build_wheels, export, uncommitted
from tools.sources import ROOT

SUMS = "SHA256SUMS"


def write_release(source: Path, target: Path, *, epoch: int) -> list[Path]:
    """Build the wheels, their bills of materials and the checksums.

    Args:
        source: the repository's files.
        target: an empty folder.
        epoch: the time of the commit, in seconds since 1970.

    Returns:
        What was written, `SHA256SUMS` last.
    """
    project = tomllib.loads((source / "schemas" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    packages = read_lock(source / "requirements" / "runtime.lock")
    for path in build_wheels(source, target, epoch=epoch):
        alone = path.name.startswith("slotwire_schemas-")
        needed = tuple(requirement_name(line) for line in project["dependencies"]) if alone else None
        bill = bill_of_materials(Wheel(path, needed), packages, epoch=epoch)
        (target / f"{'-'.join(path.name.split('-')[:2])}.cdx.json").write_text(bill, encoding="utf-8")
    written = sorted(target.iterdir())
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in written)
    (target / SUMS).write_text(sums, encoding="utf-8")
    return [*written, target / SUMS]


def main() -> int:
    """Pin what can be pinned, then build the last commit."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description="Build a release into dist/.")
    add_registries(parser)
    chosen = parser.parse_args()
    if pin(unpinned_files(ROOT), registries(chosen), refresh=False).pinned:
        sys.stdout.write("The images above are pinned now: commit the files, then run `make release` again.\n")
        return 1
    if changes := uncommitted(ROOT):
        sys.stdout.write(f"{len(changes)} uncommitted changes are not in this release.\n")
    dist = ROOT / "dist"
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source", Path(folder) / "dist"
        source.mkdir()
        target.mkdir()
        epoch = export(ROOT, "HEAD", source)
        written = write_release(source, target, epoch=epoch)
        shutil.rmtree(dist, ignore_errors=True)
        shutil.copytree(target, dist)
    for path in written:
        sys.stdout.write(f"wrote dist/{path.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
