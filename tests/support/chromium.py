"""A real browser without a window, driven through its DevTools protocol."""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tools.drills import program

SECONDS = 30
_NUMBERS = itertools.count(1)


@dataclass
class Tab:
    """A tab of the browser; tabs of one context share cookies."""

    session: str
    socket: aiohttp.ClientWebSocketResponse
    _answers: dict[int, asyncio.Future[dict[str, Any]]]
    _loaded: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self, url: str) -> None:
        """Type an address, and wait until the page is there."""
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        await self.loaded()

    async def press(self, selector: str) -> None:
        """Press a button, and wait for the page that it leads to."""
        self._loaded.clear()
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")
        await self.loaded()

    async def choose(self, selector: str, value: str) -> None:
        """Choose an entry of a list."""
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).value = {json.dumps(value)}")

    async def loaded(self) -> None:
        """Wait until a page has loaded."""
        async with asyncio.timeout(SECONDS):
            await self._loaded.wait()

    async def text(self) -> str:
        """What the page shows."""
        return str(await self.evaluate("document.body.innerText"))

    async def address(self) -> str:
        """Where the tab is."""
        return str(await self.evaluate("location.href"))

    async def evaluate(self, expression: str) -> Any:
        """Compute something in the page."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        return await _call(self.socket, self._answers, method, parameters, self.session)


@dataclass
class Chromium:
    """A running browser."""

    socket: aiohttp.ClientWebSocketResponse
    tabs: dict[str, Tab] = field(default_factory=dict)
    _answers: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)

    async def person(self) -> str:
        """Make a context of its own: another person's browser, without cookies."""
        return str((await self._ask("Target.createBrowserContext"))["browserContextId"])

    async def tab(self, person: str) -> Tab:
        """Open a tab in somebody's browser."""
        target = await self._ask("Target.createTarget", url="about:blank", browserContextId=person)
        attached = await self._ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        made = Tab(attached["sessionId"], self.socket, self._answers)
        self.tabs[made.session] = made
        await made.call("Page.enable")
        return made

    async def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return await _call(self.socket, self._answers, method, parameters)

    async def listen(self) -> None:
        """Pass on what the browser says."""
        async for message in self.socket:
            said = json.loads(message.data)
            waiting = self._answers.pop(said.get("id", -1), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(said)
            elif said.get("method") == "Page.loadEventFired":
                self.tabs[said["sessionId"]]._loaded.set()


@asynccontextmanager
async def chromium() -> AsyncIterator[Chromium]:
    """Run a browser while the block runs."""
    with tempfile.TemporaryDirectory() as profile:
        options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage")
        process = await asyncio.create_subprocess_exec(
            program("chromium"),
            *options,
            f"--user-data-dir={profile}",
            "--remote-debugging-port=0",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        # The browser's own processes write into the profile after the first of them has ended. They share its
        # standard error, which therefore ends with the last of them.
        ended = asyncio.create_task(process.communicate())
        try:
            address = await _address(Path(profile) / "DevToolsActivePort")
            async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
                browser = Chromium(socket)
                listening = asyncio.create_task(browser.listen())
                yield browser
                listening.cancel()
        finally:
            process.terminate()
            async with asyncio.timeout(SECONDS):
                await ended


async def _address(file: Path) -> str:
    async with asyncio.timeout(SECONDS):
        while not file.exists() or len(file.read_text().splitlines()) < 2:  # noqa: ASYNC110, ASYNC240 - another process
            await asyncio.sleep(0.05)
    port, path = file.read_text().splitlines()[:2]  # noqa: ASYNC240 - a line of a small file
    return f"ws://127.0.0.1:{port}{path}"


async def _call(
    socket: aiohttp.ClientWebSocketResponse,
    answers: dict[int, asyncio.Future[dict[str, Any]]],
    method: str,
    parameters: dict[str, Any],
    session: str | None = None,
) -> dict[str, Any]:
    number = next(_NUMBERS)
    answers[number] = asyncio.get_running_loop().create_future()
    sent = {"id": number, "method": method, "params": parameters}
    await socket.send_json(sent if session is None else {**sent, "sessionId": session})
    async with asyncio.timeout(SECONDS):
        said = await answers[number]
    assert "error" not in said, said
    found: dict[str, Any] = said["result"]
    return found
