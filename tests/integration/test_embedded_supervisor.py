"""The supervisor of `slotwire local` waits until a process is ready, restarts it when it dies, and reports both."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.local.children import Stdout
from slotwire.ingest.local.state import StateFolder
from slotwire.ingest.local.supervisor import Process, Service, Supervisor, http_status

PROGRAM = textwrap.dedent(
    """
    import http.server, signal, sys, time
    mode, port = sys.argv[1], int(sys.argv[2])
    print("hello from", mode, sys.stdout.isatty(), flush=True)
    if mode == "broken":
        print("the reason is written here", file=sys.stderr)
        sys.exit(3)
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(503 if mode == "unready" else 200)
            self.end_headers()
        def log_message(self, *_):
            pass
    http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
    """
)


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    """A claimed-looking folder; these programs need no lock."""
    (tmp_path / "state").mkdir()
    return StateFolder(tmp_path / "state")


def _process(state: StateFolder, mode: str, show: Callable[[str], None] = print, *, stdout: Stdout = "log") -> Process:
    port = state.port(mode)
    service = Service(
        mode,
        [sys.executable, "-c", PROGRAM, mode, str(port)],
        {"PATH": os.environ["PATH"]},
        ready_url=f"http://127.0.0.1:{port}/readyz",
        stdout=stdout,
    )
    return Process(service, state, show)


@asynccontextmanager
async def _running(process: Process) -> AsyncIterator[Process]:
    try:
        await process.start()
        yield process
    finally:
        await process.stop()


async def _until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not happened():  # noqa: ASYNC110 - another process decides, there is no event to await
            await asyncio.sleep(0.02)


async def test_a_process_is_started_once_it_answers(state: StateFolder) -> None:
    """`start` returns when the process says it is ready, and `stop` ends it."""
    async with _running(_process(state, "good")) as process:
        assert await http_status(process.service.ready_url) == 200
    assert not process.running
    assert process.ending == "was killed by SIGTERM"
    assert await http_status(process.service.ready_url) == 0


async def test_a_process_that_ends_at_once_is_quoted(state: StateFolder) -> None:
    """The message has the exit code, its last words, and the name of its log."""
    with pytest.raises(SlotwireError, match="broken ended with exit code 3") as caught:
        await _process(state, "broken").start()
    assert "the reason is written here" in caught.value.remedy
    assert "broken.log" in caught.value.remedy


@pytest.mark.parametrize(("stdout", "terminal"), [("pipe", False), ("terminal", True)])
async def test_lines_of_a_shown_process_are_handed_on(state: StateFolder, stdout: Stdout, terminal: bool) -> None:
    """What the demo agent prints is shown line by line while it runs, with colours where there is a terminal."""
    lines: list[str] = []
    async with _running(_process(state, "good", lines.append, stdout=stdout)):
        await _until(lambda: bool(lines))
    assert lines == [f"hello from good {terminal}"]


async def test_a_process_that_dies_is_restarted_and_reported(state: StateFolder) -> None:
    """After `kill -9` the supervisor reports the death, restarts the process, and reports that too."""
    said: list[str] = []
    supervisor = Supervisor(said.append)
    async with _running(_process(state, "good")) as process, supervisor.watching([process]):
        first = process.pid
        os.kill(first, signal.SIGKILL)
        await _until(lambda: "good runs again" in said)
        assert process.pid != first
        assert await http_status(process.service.ready_url) == 200
    assert said == ["good was killed by SIGKILL; restarting it", "good runs again"]
    assert supervisor.deaths == {"good": 1}


async def test_a_process_that_keeps_dying_is_restarted_with_pauses(state: StateFolder) -> None:
    """The wait grows with each death, so that a broken process does not eat the machine."""
    said: list[str] = []
    process = _process(state, "broken")
    async with Supervisor(said.append).watching([process]):
        await _until(lambda: sum("restarting it" in line for line in said) == 3)
    await process.stop()
    waits = [line for line in said if "restarting it" in line]
    assert waits[0].endswith("restarting it")
    assert waits[1].endswith("restarting it in 0.5 s")
    assert waits[2].endswith("restarting it in 1 s")


async def test_a_process_that_ignores_signals_is_killed_in_time(state: StateFolder) -> None:
    """Stopping takes no longer than its limit, whatever the process does."""
    process = _process(state, "deaf")
    await process.start()
    begun = time.monotonic()
    await process.stop(steps=((signal.SIGTERM, 0.3),))
    assert time.monotonic() - begun < 20  # on a busy machine; by itself it would never end
    assert process.ending == "was killed by SIGKILL"


async def test_no_answer_is_not_an_answer(state: StateFolder) -> None:
    """A 503 is not ready; a closed port is nothing at all."""
    process = _process(state, "unready")
    starting = asyncio.create_task(process.start())
    async with asyncio.timeout(60):
        while await http_status(process.service.ready_url) != 503:
            assert not starting.done()
    assert not starting.done()
    starting.cancel()
    await asyncio.wait({starting})
    await process.stop()
    assert await http_status(process.service.ready_url) == 0
