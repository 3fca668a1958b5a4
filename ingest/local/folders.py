"""Where the embedded stack keeps its state and what it downloaded, and who may pass through which folder."""

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


def default_state_dir() -> Path:
    """Return where the stack keeps its data between runs: the XDG state folder, for root a system folder."""
    return _base("XDG_STATE_HOME", ".local/state", "/var/lib") / "slotwire" / "local"


def cache_dir() -> Path:
    """Return where downloads are kept, outside of any checkout: the XDG cache, for root a system folder."""
    return _base("XDG_CACHE_HOME", ".cache", "/var/cache") / "slotwire"


def _base(variable: str, in_home: str, of_system: str) -> Path:
    """The base directory specification tells to ignore a value that is not absolute.

    Root's home is closed to the account that runs Postgres, so root gets a system folder.
    """
    value = os.environ.get(variable, "")
    if value.startswith("/"):
        return Path(value)
    return Path(of_system) if os.geteuid() == 0 else Path.home() / in_home


def unprivileged_account() -> Account | None:
    """Return the account that runs Postgres: None (ourselves) unless we are root.

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
    """Tell whether an account may enter a folder, from the permission bits of it and of all its parents."""
    folder = folder.resolve()
    return all(_grants(part, account, stat.S_IXOTH) for part in (folder, *folder.parents))


def can_run(program: Path, account: Account) -> bool:
    """Tell whether an account may read and execute a file."""
    return can_pass(program.parent, account) and _grants(program, account, stat.S_IXOTH | stat.S_IROTH)


def _grants(path: Path, account: Account, others: int) -> bool:
    """Compare with the class of permission bits that applies: the owner's, the group's or the others'."""
    found = path.stat()
    wanted = others
    if found.st_uid == account.uid:
        wanted = others << 6
    elif found.st_gid == account.gid:
        wanted = others << 3
    return found.st_mode & wanted == wanted


def make_passable(folder: Path) -> None:
    """Make a folder and its missing parents, whatever the umask: ours alone, for root to pass through.

    What is there already keeps its permissions.
    """
    missing = [part for part in (folder, *folder.parents) if not part.exists()]
    for part in reversed(missing):
        part.mkdir(exist_ok=True)
        part.chmod(0o711 if os.geteuid() == 0 else 0o700)


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, readable by us alone, so that a crash leaves the old one or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
