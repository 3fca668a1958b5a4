"""A person who is asked by an agent decides in a real browser, and no other page does it for them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from slotwire.ingest.local.databases import Database
from tests.support.approval_desk import DecisionDesk, opened
from tests.support.chromium import Chromium, chromium

pytestmark = pytest.mark.drills


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[DecisionDesk]:
    """The pages of somebody who has no OAuth app."""
    async with opened(database, integrator="Example Scheduling") as made:
        yield made


@pytest.fixture
async def browser() -> AsyncIterator[Chromium]:
    """A browser without a window."""
    async with chromium() as running:
        yield running


async def test_a_person_decides_in_the_browser(desk: DecisionDesk, browser: Chromium) -> None:
    """What an invitee typed is text to the browser, too; the button decides, and what is opened again says so."""
    asked = await desk.asked()
    url, tab = await desk.link(asked), await browser.tab(await browser.person())
    await tab.open(url)
    shown = await tab.text()
    for told in ("Example Scheduling", "finance", "</pre><script>alert(1)</script>", "\\u202eevil"):
        assert told in shown
    assert await tab.evaluate("document.scripts.length") == 0
    assert await tab.evaluate("getComputedStyle(document.body).maxWidth") != "none", "its style is let through"
    assert await desk.state(asked) == ("open", "waiting")
    await tab.press("#approve")
    assert "Approved" in await tab.text()
    assert await desk.state(asked) == ("approved", "ready")
    await tab.open(url)
    assert "decided before" in await tab.text()


async def test_a_foreign_page_cannot_decide(desk: DecisionDesk, browser: Chromium) -> None:
    """Even one that knows the link: its form is refused."""
    asked = await desk.asked()
    url, tab = await desk.link(asked), await browser.tab(await browser.person())
    page, _, ticket = url.partition("?ticket=")
    digest = (await desk.api.actions.pool.fetchval("SELECT digest FROM slotwire.approvals")).hex()
    fields = {"ticket": ticket, "digest": digest, "decision": "approve"}
    form = f"<form method=post action={page}><button id=go>x</button>"
    form += "".join(f"<input name={name} value={value}>" for name, value in fields.items()) + "</form>"
    await tab.open("data:text/html,<p>another site</p>")
    await tab.evaluate(f"document.documentElement.innerHTML = {form!r}")
    await tab.press("#go")
    assert "Open the link you got yourself" in await tab.text()
    assert await desk.state(asked) == ("open", "waiting")
