"""The state folder of one embedded stack: its lock, ports, secrets, and the list of running children.

The folder is private: mode 0700, or 0711 for root, because the account that runs Postgres must pass through
it. Files have mode 0600.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.local.children import ChildrenFile
from slotwire.ingest.local.folders import Account, can_pass, make_passable, write_private

MARK = "slotwire-state"
"""The file that marks a state folder. A folder without it is not wiped, and is used only if it is empty."""
LAYOUT = "1"
"""First word of the mark; the second is random and distinguishes this folder from a later one at the same path."""
MIN_FREE_BYTES = 150_000_000
"""For a new installation: Postgres takes 60 MB, Kafka's first files 20 MB; the rest is for the data."""
MIN_FREE_BYTES_LATER = 30_000_000
"""For an installation that exists: two segments of Postgres's log."""
PORT_RANGE = range(20_000, 32_000)
"""Below the range from which systems take the ports of outgoing connections, so that a port remains free."""
_WIPED = (
    "postgres",
    "kafka",
    "logs",
    "ports.json",
    "secrets.json",
    "children.json",
    "ready.json",
    "slotwire.env",
    "clock",
    "agents.env",
    "simulator.db",
    "simulator.db-shm",
    "simulator.db-wal",
    "lock",
)
"""The entries of a state folder that `wipe` deletes."""
_ELSEWHERE = Path("/var/lib/slotwire")


@dataclass(slots=True)
class StateFolder:
    """A claimed state folder. Only `claim` and `wipe` make one, and only with its lock held.

    Attributes:
        path: the folder, absolute.
    """

    path: Path

    @classmethod
    @contextmanager
    def claim(cls, path: Path) -> Iterator[StateFolder]:
        """Create or open the folder and hold its lock while the block runs.

        Raises:
            SlotwireError: it belongs to another program, is in use, cannot be written or the disk is full.
        """
        path = path.absolute()
        with _locked(path):
            _check_space(path)
            yield cls(path)

    @property
    def children(self) -> ChildrenFile:
        """The list of the processes that run for this stack."""
        return ChildrenFile(self.path / "children.json")

    def port(self, name: str, preferred: int = 0) -> int:
        """Return the port stored under a name. The first time, choose the preferred one or any free one."""
        ports = _read(self.path / "ports.json")
        if name not in ports:
            taken = set(ports.values())
            if preferred and str(preferred) not in taken and port_is_free(preferred):
                ports[name] = str(preferred)
            while name not in ports:
                candidate = secrets.choice(PORT_RANGE)
                if str(candidate) not in taken and port_is_free(candidate):
                    ports[name] = str(candidate)
            _write(self.path / "ports.json", ports)
        return int(ports[name])

    def secret(self, name: str) -> str:
        """Return the secret stored under a name; the first time, create one: 32 random bytes as base64url."""
        found = self.stored_secret(name)
        if not found:
            found = secrets.token_urlsafe(32)
            self.store_secret(name, found)
        return found

    def stored_secret(self, name: str) -> str:
        """Return the secret stored under a name, or an empty string."""
        return _read(self.path / "secrets.json").get(name, "")

    def store_secret(self, name: str, secret: str) -> None:
        """Store a secret that was created elsewhere."""
        stored = _read(self.path / "secrets.json")
        if stored.get(name) != secret:
            _write(self.path / "secrets.json", {**stored, name: secret})

    def log_file(self, name: str) -> Path:
        """Return the log file of a child; move an earlier one aside if it has more than 10 MB."""
        folder = self.path / "logs"
        folder.mkdir(mode=0o700, exist_ok=True)
        log = folder / f"{name}.log"
        if log.exists() and log.stat().st_size > 10_000_000:
            log.replace(folder / f"{name}.log.1")
        return log

    def postgres_home(self, account: Account | None) -> Path:
        """Return the folder for Postgres's files: in this one, or, if its account cannot enter it, a system folder."""
        if account is None or can_pass(self.path, account):
            return self.path / "postgres"
        return _home_elsewhere(self.path)


async def wipe(path: Path) -> list[Path]:
    """Delete the files of a stack from its state folder, and nothing else.

    Returns:
        the paths that were deleted.

    Raises:
        SlotwireError: the folder is not a state folder, or in use.
    """
    if not _is_ours(path):
        return []
    with _locked(path):
        await StateFolder(path).children.end_strays()
        return _delete(path)


def _is_ours(path: Path) -> bool:
    """Return whether there is a state folder at this path."""
    if not path.exists():
        return False
    if not (path / MARK).exists():
        raise SlotwireError(
            f"{path} is not a state folder of slotwire: nothing was deleted",
            remedy="Check the folder named with --state-dir.",
        )
    return True


def _delete(path: Path) -> list[Path]:
    path = path.absolute()
    doomed = [path / name for name in _WIPED] + [_home_elsewhere(path)]
    deleted = [item for item in doomed if item.exists()]
    for item in deleted:
        if item.is_dir():
            shutil.rmtree(item)
        else:
            item.unlink()
    (path / MARK).unlink()
    if not any(path.iterdir()):
        path.rmdir()
    return deleted


def port_is_free(port: int) -> bool:
    """Return whether a server could listen on a loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def require_port(state: StateFolder, name: str, title: str) -> int:
    """Return the port stored under a name.

    Raises:
        SlotwireError: another program listens on it.
    """
    port = state.port(name)
    if not port_is_free(port):
        raise SlotwireError(
            f"port {port} of this installation, for {title}, is in use by another program",
            remedy=f"Stop that program, or delete {state.path / 'ports.json'} to let Slotwire choose new ports.",
        )
    return port


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Create the folder if it is missing, and hold its lock."""
    path = path.absolute()
    _make(path)
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(lock, path)
        yield
    finally:
        os.close(lock)


def _make(path: Path) -> None:
    try:
        make_passable(path)
        if not (path / MARK).exists():
            if any(entry.name != "lock" for entry in path.iterdir()):
                raise SlotwireError(
                    f"{path} is not empty and not a state folder of slotwire",
                    remedy="Name an empty or new folder with --state-dir.",
                )
            if os.geteuid() == 0:
                path.chmod(0o711)
            write_private(path / MARK, f"{LAYOUT} {secrets.token_hex(8)}\n")
    except OSError as error:
        raise SlotwireError(
            f"the state folder {path} cannot be used: {(error.strerror or 'unknown error').lower()}",
            remedy="Free some disk space or name another folder with --state-dir.",
        ) from error


def _lock(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
        raise SlotwireError(
            f"the state folder {path} is in use by the process {holder or '(unknown)'}",
            remedy="Stop that process, or name another folder with --state-dir (or --ephemeral).",
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def _check_space(path: Path) -> None:
    needed = MIN_FREE_BYTES_LATER if (path / "kafka" / "VERSION").exists() else MIN_FREE_BYTES
    if shutil.disk_usage(path).free < needed:
        raise no_space(path, needed)


def no_space(path: Path, needed: int = MIN_FREE_BYTES_LATER) -> SlotwireError:
    """Return the error of a full disk."""
    return SlotwireError(
        f"there is too little disk space left for {path} (at least {needed // 1_000_000} MB are needed)",
        remedy="Free some space (or raise the quota or file size limit), or name another folder with --state-dir.",
    )


def _home_elsewhere(path: Path) -> Path:
    """Return the system folder of a state folder; its name depends on the mark, so no new folder gets old data."""
    known_by = os.fsencode(path) + (path / MARK).read_bytes()
    return _ELSEWHERE / f"postgres-{hashlib.sha256(known_by).hexdigest()[:12]}"


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise SlotwireError(
            f"{path} is damaged",
            remedy=f"Restore the file, or delete this installation: slotwire local --wipe --state-dir {path.parent}",
        )
    return {str(name): str(value) for name, value in found.items()}


def _write(path: Path, content: dict[str, str]) -> None:
    write_private(path, json.dumps(content, indent=2) + "\n")
