"""The broker's jars: downloaded once, only with the pinned bytes, and a clear message when that fails."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.local import jars
from slotwire.ingest.local.jars import Jar, fetch_jars, kafka_version, pinned_jars

CONTENT = {f"part-{number}": os.urandom(1_000 + number) for number in range(12)}
LARGE = {"large": os.urandom(3_000_000)}


def _jar(name: str, content: bytes) -> Jar:
    return Jar("org.example", name, "1.0", hashlib.sha256(content).hexdigest(), len(content))


JARS = tuple(_jar(name, content) for name, content in CONTENT.items())
LARGE_JAR = _jar("large", LARGE["large"])


class Repository:
    """A small Maven repository on loopback.

    Attributes:
        url: its address.
        served: the names of the jars that were asked for.
        broken: names that are answered with other bytes.
        missing: names that are answered 404.
    """

    def __init__(self) -> None:
        self.url = ""
        self.served: list[str] = []
        self.broken: set[str] = set()
        self.missing: set[str] = set()

    async def answer(self, request: web.Request) -> web.Response:
        """Serve one file."""
        name = request.match_info["name"]
        if not request.path.endswith(".jar") or name in self.missing:
            return web.Response(status=404)
        self.served.append(name)
        return web.Response(body=b"not the pinned bytes" if name in self.broken else (CONTENT | LARGE)[name])


@asynccontextmanager
async def _repository() -> AsyncIterator[Repository]:
    repository = Repository()
    app = web.Application()
    app.router.add_get("/maven/org/example/{name}/1.0/{file}", repository.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    repository.url = f"http://127.0.0.1:{runner.addresses[0][1]}/maven/"
    try:
        yield repository
    finally:
        await runner.cleanup()


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


async def test_jars_are_downloaded_once_and_then_need_no_network(tmp_path: Path) -> None:
    """The first call downloads and reports progress; the second one makes no request and reports nothing."""
    lines: list[str] = []
    async with _repository() as repository:
        paths = await fetch_jars(tmp_path, mirror=repository.url, report=lines.append, jars=JARS)
        assert sorted(repository.served) == sorted(CONTENT)
    assert [path.read_bytes() for path in paths] == list(CONTENT.values())
    assert lines[-1] == "downloading Kafka: 0 of 0 MB, 0 MB left (12 of 12 files)"
    lines.clear()
    assert await fetch_jars(tmp_path, mirror=repository.url, report=lines.append, jars=JARS) == paths
    assert lines == []
    assert _names(tmp_path) == {jar.name for jar in JARS}


async def test_progress_says_what_is_left_while_a_large_file_arrives(tmp_path: Path) -> None:
    """Each megabyte that arrives is reported, not only each finished file."""
    lines: list[str] = []
    async with _repository() as repository:
        await fetch_jars(tmp_path, mirror=repository.url, report=lines.append, jars=[LARGE_JAR])
    assert lines[0] == f"downloading Kafka (3 MB, only the first time) to {tmp_path}"
    steps = ["0 of 3 MB, 3 MB left", "1 of 3 MB, 2 MB left", "2 of 3 MB, 1 MB left", "3 of 3 MB, 0 MB left"]
    assert [step for step in steps if any(step in line and "(0 of 1 files)" in line for line in lines)] == steps
    assert lines[-1] == "downloading Kafka: 3 of 3 MB, 0 MB left (1 of 1 files)"


async def test_a_damaged_jar_is_downloaded_again(tmp_path: Path) -> None:
    """A cached file with other bytes is never used: it is replaced, and nothing else is downloaded."""
    lines: list[str] = []
    async with _repository() as repository:
        await fetch_jars(tmp_path, mirror=repository.url, report=lines.append, jars=JARS)
        (tmp_path / JARS[3].name).write_bytes(b"damaged")
        repository.served.clear()
        await fetch_jars(tmp_path, mirror=repository.url, report=lines.append, jars=JARS)
        assert repository.served == ["part-3"]
    assert (tmp_path / JARS[3].name).read_bytes() == CONTENT["part-3"]
    assert any("is damaged; it is downloaded again" in line for line in lines)


async def test_a_jar_with_a_wrong_hash_is_refused(tmp_path: Path) -> None:
    """A file with a wrong SHA-256 is requested twice, then refused, and not stored."""
    async with _repository() as repository:
        repository.broken.add("part-5")
        with pytest.raises(SlotwireError, match=r"part-5-1.0.jar does not have the expected SHA-256") as caught:
            await fetch_jars(tmp_path, mirror=repository.url, report=lambda _: None, jars=JARS)
        assert repository.served.count("part-5") == 2
        assert "SLOTWIRE_LOCAL__MAVEN_REPOSITORY" in caught.value.remedy
        assert not (tmp_path / "part-5-1.0.jar").exists()


async def test_a_downloader_that_breaks_is_tried_again_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it raises in its thread, somebody who waits hears of it; an error that passes costs an attempt."""
    resolve, calls = jars._resolve, list[str]()

    def breaks(jar: Jar, *rest: Any) -> Path:
        calls.append(jar.artifact)
        if jar.artifact == "part-3" and (always or calls.count("part-3") == 1):
            raise AttributeError(jar.artifact)
        return resolve(jar, *rest)

    monkeypatch.setattr(jars, "_resolve", breaks)
    async with _repository() as repository, asyncio.timeout(60):
        always = False
        await fetch_jars(tmp_path / "once", mirror=repository.url, report=list[str]().append, jars=JARS)
        assert calls.count("part-3") == 2
        always = True
        with pytest.raises(SlotwireError, match=r"part-3-1\.0\.jar could not be downloaded: AttributeError"):
            await fetch_jars(tmp_path / "always", mirror=repository.url, report=list[str]().append, jars=JARS)


async def test_a_failed_download_is_continued_by_the_next_start(tmp_path: Path) -> None:
    """After a failure, the files that arrived are not downloaded again."""
    async with _repository() as repository:
        repository.missing.add("part-11")
        with pytest.raises(SlotwireError, match=r"part-11-1.0.jar is not in the repository"):
            await fetch_jars(tmp_path, mirror=repository.url, report=lambda _: None, jars=JARS)
        there = _names(tmp_path)
        repository.missing.clear()
        repository.served.clear()
        await fetch_jars(tmp_path, mirror=repository.url, report=lambda _: None, jars=JARS)
        assert sorted(f"{name}-1.0.jar" for name in repository.served) == sorted({jar.name for jar in JARS} - there)


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """When downloads cannot be stored, the message names the folder."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SlotwireError, match="downloads cannot be stored in"):
        await fetch_jars(tmp_path / "file" / "jars", mirror=None, report=lambda _: None, jars=JARS)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "SLOTWIRE_LOCAL__MAVEN_REPOSITORY"])
def test_no_network_at_the_first_start_says_what_to_do(tmp_path: Path, variable: str) -> None:
    """With a closed proxy or mirror, the download fails at once, with a remedy and without a stack trace."""
    program = textwrap.dedent(
        """
        import asyncio, pathlib, sys
        from slotwire.ingest.errors import SlotwireError
        from slotwire.ingest.foundation.settings import load_settings
        from slotwire.ingest.local.jars import fetch_jars
        mirror = load_settings().local.maven_repository
        try:
            asyncio.run(fetch_jars(pathlib.Path(sys.argv[1]), mirror=mirror, report=lambda _: None))
        except SlotwireError as error:
            print(error.message)
            print(error.remedy)
        """
    )
    environment = {"PATH": os.environ["PATH"], variable: "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "jars")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stdout.startswith("Kafka cannot be downloaded: ")
    assert ("the proxy does not answer" if variable == "HTTPS_PROXY" else "cannot be reached") in done.stdout
    assert "HTTPS_PROXY" in done.stdout
    assert "SLOTWIRE_LOCAL__MAVEN_REPOSITORY" in done.stdout
    assert done.stderr == ""


def test_the_pinned_list_is_one_broker() -> None:
    """Every Kafka part has the same version, and every line pins a whole SHA-256."""
    jars = pinned_jars()
    assert {jar.version for jar in jars if jar.group == "org.apache.kafka"} == {kafka_version()}
    assert kafka_version().startswith("4.")
    assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in jars)
    assert len({jar.name for jar in jars}) == len(jars)
