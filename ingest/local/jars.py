"""The broker's jars: pinned by coordinates and SHA-256, downloaded once, stored outside the checkout.

`jgo`, a Maven client, downloads them from its default repository, or from the mirror that
`SLOTWIRE_LOCAL__MAVEN_REPOSITORY` names. A jar from any source is used only if its SHA-256 matches.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import logging
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TypeAlias

from slotwire.ingest.errors import SlotwireError

FETCHERS = 8
"""Downloads at once."""
ATTEMPTS = 2
"""How many times one jar is requested before the download fails."""
TIMEOUT_SECONDS = 30
"""How long the repository may take to send the next bytes."""
GIVE_UP_SECONDS = 1.0
"""How long a stop waits for downloads in progress. One that hangs on a silent server ends with the process."""
PROGRESS_BYTES = 250_000
"""Progress is reported after so many bytes of a file."""

Report = Callable[[str], None]
"""Takes one line about the progress."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned file.

    Attributes:
        group, artifact, version: its Maven coordinates.
        sha256: of its bytes, in hex.
        size: in bytes.
    """

    group: str
    artifact: str
    version: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        """Its file name."""
        return f"{self.artifact}-{self.version}.jar"


class _DownloadStopped(Exception):
    """The download was stopped before its end."""


def pinned_jars() -> tuple[Jar, ...]:
    """Read the pinned list, in the order of the class path."""
    return read_jars(resources.files(__package__).joinpath("kafka-jars.txt").read_text("utf-8"))


def read_jars(text: str) -> tuple[Jar, ...]:
    """Read a list of jars: a line each with coordinates, SHA-256 and size; `#` begins a comment."""
    jars = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            coordinates, sha256, size = line.split()
            group, artifact, version = coordinates.split(":")
            jars.append(Jar(group, artifact, version, sha256, int(size)))
    return tuple(jars)


def kafka_version(jars: Iterable[Jar] | None = None) -> str:
    """Return the version of the broker of a list, or of the pinned one."""
    return next(jar.version for jar in jars or pinned_jars() if jar.artifact == "kafka-clients")


async def fetch_jars(
    folder: Path, *, mirror: str | None, report: Report, jars: Sequence[Jar] | None = None
) -> list[Path]:
    """Download the pinned jars that are missing from the folder.

    Jars with the right bytes are not downloaded again, so a second call needs no network, and a call after an
    interrupted download continues it.

    Args:
        folder: where the jars are stored; created if it does not exist.
        mirror: the address of a Maven repository to use instead of the default.
        report: called with a line each time there is progress.
        jars: the list of jars, for tests.

    Returns:
        the jars' paths in the order of the class path.

    Raises:
        SlotwireError: a jar cannot be downloaded: no network, not in the repository, wrong bytes, no disk space.
    """
    wanted = pinned_jars() if jars is None else tuple(jars)
    missing = _missing(wanted, folder, report)
    if missing:
        await _download(missing, folder, mirror, report)
    return [folder / jar.name for jar in wanted]


def _missing(wanted: Sequence[Jar], folder: Path, report: Report) -> list[Jar]:
    """Return the jars to download. Hashing all 37 MB takes 40 ms."""
    missing = []
    for jar in wanted:
        path = folder / jar.name
        if not path.exists():
            missing.append(jar)
        elif _digest(path) != jar.sha256:
            report(f"{path} is damaged; it is downloaded again")
            missing.append(jar)
    return missing


@dataclass(frozen=True, slots=True)
class _JarProgress:
    """How many bytes of a jar have arrived."""

    jar: Jar
    size: int


@dataclass(frozen=True, slots=True)
class _JarOutcome:
    """The end of a jar's download: the jar is in place, or an error."""

    jar: Jar
    error: SlotwireError | None


_Results: TypeAlias = "asyncio.Queue[_JarProgress | _JarOutcome | None]"
"""What the threads report; None when a thread has ended."""


@dataclass(frozen=True, slots=True)
class _Fetchers:
    """Daemon threads that download: a stop never waits for a silent server.

    Attributes:
        folder: where finished jars are moved to.
        part: where they are written first.
        mirror: see `fetch_jars`.
        todo: the jars that no thread has taken yet.
        results: what the threads report.
        loop: the loop of `results`.
        stop: set to end the threads early.
    """

    folder: Path
    part: Path
    mirror: str | None
    todo: queue.SimpleQueue[Jar]
    results: _Results
    loop: asyncio.AbstractEventLoop
    stop: threading.Event

    def work(self) -> None:
        """Download one jar after the other until none is left. However it ends, that is reported: somebody waits."""
        try:
            with suppress(queue.Empty, _DownloadStopped):
                while not self.stop.is_set():
                    self._fetch_next(self.todo.get_nowait())
        finally:
            self._post(None)

    def _fetch_next(self, jar: Jar) -> None:
        reported = 0

        def received(size: int) -> None:
            nonlocal reported
            if self.stop.is_set():
                raise _DownloadStopped
            if abs(size - reported) >= PROGRESS_BYTES:  # a second attempt begins at 0 again
                reported = size
                self._post(_JarProgress(jar, size))

        try:
            _fetch(jar, self.part, self.folder, self.mirror, received)
        except SlotwireError as error:
            if self.stop.is_set():
                raise _DownloadStopped from error
            self._post(_JarOutcome(jar, error))
        else:
            self._post(_JarOutcome(jar, None))

    def _post(self, result: _JarProgress | _JarOutcome | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self.results.put_nowait, result)


async def _download(missing: Sequence[Jar], folder: Path, mirror: str | None, report: Report) -> None:
    part = _scratch(folder)
    todo: queue.SimpleQueue[Jar] = queue.SimpleQueue()
    for jar in missing:
        todo.put(jar)
    results: _Results = asyncio.Queue()
    await asyncio.to_thread(importlib.import_module, "jgo.maven")  # once, before several threads do at the same time
    loop, stop = asyncio.get_running_loop(), threading.Event()
    fetchers = _Fetchers(folder, part, mirror, todo, results, loop, stop)
    running = min(FETCHERS, len(missing))
    arrived = dict.fromkeys(missing, 0)
    finished = 0
    try:
        report(f"downloading Kafka ({_megabytes(missing)} MB, only the first time) to {folder}")
        for _ in range(running):
            threading.Thread(target=fetchers.work, daemon=True).start()
        while running:
            match await results.get():
                case None:
                    running -= 1
                case _JarProgress(jar, size):
                    arrived[jar] = size
                    report(_progress(arrived, finished))
                case _JarOutcome(jar, None):
                    arrived[jar] = jar.size
                    finished += 1
                    report(_progress(arrived, finished))
                case _JarOutcome(_, SlotwireError() as problem):
                    raise problem
    finally:
        stop.set()
        await _ended(results, running)
        shutil.rmtree(part, ignore_errors=True)


def _progress(arrived: Mapping[Jar, int], finished: int) -> str:
    total = _megabytes(arrived)
    done = min(round(sum(arrived.values()) / 1e6), total)
    files = f"{finished} of {len(arrived)} files"
    return f"downloading Kafka: {done} of {total} MB, {total - done} MB left ({files})"


def _megabytes(jars: Iterable[Jar]) -> int:
    return round(sum(jar.size for jar in jars) / 1e6)


async def _ended(results: _Results, running: int) -> None:
    """Wait a moment for the threads to end."""
    with suppress(TimeoutError):
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while running:
                running -= await results.get() is None


def _scratch(folder: Path) -> Path:
    """Create a folder inside the target folder, so that the final rename stays on one file system."""
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".part-", dir=folder))
    except OSError as error:
        raise SlotwireError(
            f"downloads cannot be stored in {folder}: {(error.strerror or 'unknown error').lower()}",
            remedy="Is there space left, and does the folder belong to you?",
        ) from error


def _fetch(jar: Jar, part: Path, folder: Path, mirror: str | None, received: Callable[[int], None]) -> None:
    """Download one jar through jgo, check its SHA-256, and move it into place in one step."""
    import requests

    problem = ""
    for attempt in range(ATTEMPTS):
        try:
            fetched = _resolve(jar, part / str(attempt), mirror, received)
            if _digest(fetched) == jar.sha256:
                fetched.chmod(0o644)
                fetched.replace(folder / jar.name)
                return
        except requests.RequestException as error:
            problem = f"{jar.name} could not be downloaded: {_reason(error)}"
        except RuntimeError:
            problem = f"{jar.name} is not in the repository (or access is refused)"
            break
        except OSError as error:
            problem = f"{jar.name} could not be written: {(error.strerror or 'unknown error').lower()}"
            break
        except _DownloadStopped:
            raise
        except Exception as error:  # noqa: BLE001 - of the downloader's own; in a thread nobody else would hear of it
            problem = f"{jar.name} could not be downloaded: {type(error).__name__}"
        else:
            problem = f"{jar.name} does not have the expected SHA-256"
    raise SlotwireError(
        f"Kafka cannot be downloaded: {problem}",
        remedy=(
            "The first start downloads Kafka; later starts need no network. Check your network connection.\n"
            "Behind a proxy, set HTTPS_PROXY (and REQUESTS_CA_BUNDLE for its certificate), or name a mirror:\n"
            "SLOTWIRE_LOCAL__MAVEN_REPOSITORY=https://maven.example.com/maven2\n"
            f"The files downloaded so far are in {folder}; run the command again to continue."
        ),
    )


def _resolve(jar: Jar, cache: Path, mirror: str | None, received: Callable[[int], None]) -> Path:
    """Download one file with jgo into a cache of its own; call `received` with the bytes that have arrived so far."""
    from jgo.maven import MavenContext, PythonResolver

    # Silences jgo's warning about the repository's SHA-1: our own message about the SHA-256 follows.
    logging.getLogger("jgo").setLevel(logging.CRITICAL)

    @contextmanager
    def watch(_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        size = 0

        def count(more: int) -> None:
            nonlocal size
            size += more
            received(size)

        yield count

    context = MavenContext(
        resolver=PythonResolver(progress_callback=watch),
        repo_cache=cache,
        local_repos=[],
        remote_repos={"mirror": mirror.rstrip("/")} if mirror else None,
        timeout=TIMEOUT_SECONDS,
    )
    component = context.project(jar.group, jar.artifact).at_version(jar.version)
    return Path(component.artifact(packaging="jar").resolve())


def _reason(error: BaseException) -> str:
    """Say in a few words why the network failed, without addresses: that of a proxy may hold a password."""
    import requests

    match error:
        case requests.exceptions.ProxyError():
            return "the proxy does not answer"
        case requests.exceptions.SSLError():
            return "the repository's certificate is not trusted here"
        case requests.exceptions.Timeout():
            return "the repository does not answer"
        case requests.exceptions.ConnectionError():
            return "the repository cannot be reached"
        case _:
            return "the transfer was interrupted"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
