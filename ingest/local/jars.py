"""The broker's jars: pinned by coordinates and SHA-256, fetched once, kept outside the checkout.

The repository they come from is the default of `jgo`, an ordinary client of it, or the mirror that
`SLOTWIRE_LOCAL__MAVEN_REPOSITORY` names. Whoever serves them, only the pinned bytes are used.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from slotwire.ingest.errors import SlotwireError

FETCHERS = 8
"""Downloads at once."""
ATTEMPTS = 2
"""How often one jar is asked for before its failure counts."""
TIMEOUT_SECONDS = 30
"""How long the repository may be silent."""
GIVE_UP_SECONDS = 1.0
"""How long a stop waits for downloads under way; what a silent server holds up then ends with the process."""

Report = Callable[[str], None]
"""Takes one line about what is going on."""


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
    """The download was called off."""


def pinned_jars() -> tuple[Jar, ...]:
    """Read the pinned list, in the order of the class path."""
    text = resources.files(__package__).joinpath("kafka-jars.txt").read_text("utf-8")
    jars = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            coordinates, sha256, size = line.split()
            group, artifact, version = coordinates.split(":")
            jars.append(Jar(group, artifact, version, sha256, int(size)))
    return tuple(jars)


def kafka_version() -> str:
    """Return the broker's version."""
    return next(jar.version for jar in pinned_jars() if jar.artifact == "kafka-clients")


async def fetch_jars(
    folder: Path, *, mirror: str | None, report: Report, jars: Sequence[Jar] | None = None
) -> list[Path]:
    """Make sure that every pinned jar is in the folder, with the right bytes.

    What is there and right is kept, so that a second call needs no network and an interrupted first one is
    continued. A file with other bytes is fetched again.

    Args:
        folder: where the jars are kept; made when missing.
        mirror: the address of a Maven repository to use in place of the default.
        report: told about progress.
        jars: the list, for tests.

    Returns:
        the jars' paths in the order of the class path.

    Raises:
        SlotwireError: a jar cannot be had: no network, not in the repository, wrong bytes, no disk.
    """
    wanted = pinned_jars() if jars is None else tuple(jars)
    missing = _missing(wanted, folder, report)
    if missing:
        await _download(missing, folder, mirror, report)
    return [folder / jar.name for jar in wanted]


def _missing(wanted: Sequence[Jar], folder: Path, report: Report) -> list[Jar]:
    """Hash what is there; 37 MB take 40 ms."""
    missing = []
    for jar in wanted:
        path = folder / jar.name
        if not path.exists():
            missing.append(jar)
        elif _digest(path) != jar.sha256:
            report(f"{path} is damaged and is fetched again")
            missing.append(jar)
    return missing


@dataclass(frozen=True, slots=True)
class _Fetchers:
    """Daemon threads that fetch: a stop never waits for a silent server.

    Attributes:
        folder: where jars are put in place.
        part: where they are written first.
        mirror: see `fetch_jars`.
        todo: what is left to fetch.
        results: a jar and what went wrong with it; None when a thread ended.
        loop: the loop of `results`.
        stop: set to call the rest off.
    """

    folder: Path
    part: Path
    mirror: str | None
    todo: queue.SimpleQueue[Jar]
    results: asyncio.Queue[tuple[Jar, SlotwireError | None] | None]
    loop: asyncio.AbstractEventLoop
    stop: threading.Event

    def work(self) -> None:
        """Fetch one jar after the other until none is left."""
        with suppress(queue.Empty, _DownloadStopped):
            while not self.stop.is_set():
                self._fetch_next(self.todo.get_nowait())
        self._post(None)

    def _fetch_next(self, jar: Jar) -> None:
        try:
            _fetch(jar, self.part, self.folder, self.mirror, self.stop)
        except SlotwireError as error:
            self._post((jar, error))
        else:
            self._post((jar, None))

    def _post(self, result: tuple[Jar, SlotwireError | None] | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self.results.put_nowait, result)


async def _download(missing: Sequence[Jar], folder: Path, mirror: str | None, report: Report) -> None:
    part = _scratch(folder)
    todo: queue.SimpleQueue[Jar] = queue.SimpleQueue()
    for jar in missing:
        todo.put(jar)
    results: asyncio.Queue[tuple[Jar, SlotwireError | None] | None] = asyncio.Queue()
    loop, stop = asyncio.get_running_loop(), threading.Event()
    fetchers = _Fetchers(folder, part, mirror, todo, results, loop, stop)
    running = min(FETCHERS, len(missing))
    total = sum(jar.size for jar in missing) / 1e6
    count, done = 0, 0.0
    try:
        report(f"fetching Kafka: {len(missing)} files, {total:.0f} MB, kept in {folder}")
        for _ in range(running):
            threading.Thread(target=fetchers.work, daemon=True).start()
        while running:
            match await results.get():
                case None:
                    running -= 1
                case (jar, None):
                    count, done = count + 1, done + jar.size / 1e6
                    report(f"fetching Kafka: {count} of {len(missing)} files, {done:.0f} of {total:.0f} MB")
                case (_, SlotwireError() as problem):
                    raise problem
    finally:
        stop.set()
        await _ended(results, running)
        shutil.rmtree(part, ignore_errors=True)


async def _ended(results: asyncio.Queue[tuple[Jar, SlotwireError | None] | None], running: int) -> None:
    """Wait for downloads under way to give up; one that hangs on a silent server ends with the process."""
    with suppress(TimeoutError):
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while running:
                running -= await results.get() is None


def _scratch(folder: Path) -> Path:
    """Make a folder inside the target's, so that the final rename stays on one file system."""
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".part-", dir=folder))
    except OSError as error:
        raise SlotwireError(
            f"downloads cannot be kept in {folder}: {(error.strerror or 'unknown error').lower()}",
            remedy="Is there space left, and does the folder belong to you?",
        ) from error


def _fetch(jar: Jar, part: Path, folder: Path, mirror: str | None, stop: threading.Event) -> None:
    """Fetch one jar through jgo, check it, and put it in place in one step."""
    import requests

    problem = ""
    for attempt in range(ATTEMPTS):
        try:
            fetched = _resolve(jar, part / str(attempt), mirror, stop)
            if _digest(fetched) == jar.sha256:
                fetched.chmod(0o644)
                fetched.replace(folder / jar.name)
                return
        except requests.RequestException as error:
            problem = f"{jar.name} could not be fetched: {_reason(error)}"
        except RuntimeError:
            problem = f"{jar.name} is not served by the repository (or access to it is refused)"
            break
        except OSError as error:
            problem = f"{jar.name} could not be written: {(error.strerror or 'unknown error').lower()}"
            break
        else:
            problem = f"{jar.name} arrived with other bytes than the pinned ones"
    if stop.is_set():
        raise _DownloadStopped
    raise SlotwireError(
        f"Kafka cannot be had: {problem}",
        remedy=(
            "The first start downloads Kafka once; later ones work without a network. Is the network reachable?\n"
            "Behind a proxy set HTTPS_PROXY (and REQUESTS_CA_BUNDLE for its certificate), or name a mirror:\n"
            "SLOTWIRE_LOCAL__MAVEN_REPOSITORY=https://maven.example.com/maven2\n"
            f"What has arrived is kept in {folder}; running the command again continues."
        ),
    )


def _resolve(jar: Jar, cache: Path, mirror: str | None, stop: threading.Event) -> Path:
    """Let jgo download one file into a cache of its own."""
    from jgo.maven import MavenContext, PythonResolver

    # Its own warning about the repository's SHA-1 would come before our message about the pinned SHA-256.
    logging.getLogger("jgo").setLevel(logging.CRITICAL)

    @contextmanager
    def watch(_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        def count(_bytes: int) -> None:
            if stop.is_set():
                raise _DownloadStopped

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
    """Say in a few words why the network failed, without addresses: a proxy's may carry a password."""
    import requests

    match error:
        case requests.exceptions.ProxyError():
            return "the proxy does not answer"
        case requests.exceptions.SSLError():
            return "the repository's certificate is not trusted here"
        case requests.exceptions.Timeout():
            return "the repository does not answer"
        case requests.exceptions.ConnectionError():
            return "the repository is out of reach"
        case _:
            return "the transfer broke off"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
