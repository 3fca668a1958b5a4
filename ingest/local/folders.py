"""Folders of the embedded stack: which account may enter which, and files that are ours alone."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from slotwire.ingest.errors import SlotwireError

UNPRIVILEGED_ACCOUNTS = ("postgres", "_postgres", "nobody")
"""Accounts that may run Postgres when we are root, in order of preference: it refuses to run as uid 0."""


@dataclass(frozen=True, slots=True)
class Account:
    """A system account."""

    name: str
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """Return the account to run Postgres as, if we are root; None otherwise.

    Raises:
        SlotwireError: we are root and none of the known accounts exists.
    """
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED_ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise SlotwireError(
        f"PostgreSQL refuses to run as root, and none of these accounts exists: {', '.join(UNPRIVILEGED_ACCOUNTS)}",
        remedy="Run the command as an ordinary user, or create one of these accounts.",
    )


def can_pass(folder: Path, account: Account) -> bool:
    """Return whether the permission bits of a folder and its parents let an account enter it."""
    folder = folder.resolve()
    return all(_grants(part, account, stat.S_IXOTH) for part in (folder, *folder.parents))


def can_run(program: Path, account: Account) -> bool:
    """Return whether an account may read and execute a file."""
    return can_pass(program.parent, account) and _grants(program, account, stat.S_IXOTH | stat.S_IROTH)


def _grants(path: Path, account: Account, others: int) -> bool:
    """Check the permission bits that apply to the account: the owner's, the group's or those of others."""
    found = path.stat()
    wanted = others
    if found.st_uid == account.uid:
        wanted = others << 6
    elif found.st_gid == account.gid:
        wanted = others << 3
    return found.st_mode & wanted == wanted


def make_passable(folder: Path) -> None:
    """Create a folder and its missing parents, whatever the umask: private, but as root open for passing through.

    Folders that exist keep their permissions.
    """
    missing = [part for part in (folder, *folder.parents) if not part.exists()]
    for part in reversed(missing):
        part.mkdir(exist_ok=True)
        part.chmod(0o711 if os.geteuid() == 0 else 0o700)


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, readable by us alone, so that a crash leaves either the old or the new file."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
