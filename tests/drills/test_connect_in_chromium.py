"""A customer connects in a real browser: the way, and what attacks it, as a browser's own rules have it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from slotwire.ingest.local.databases import Database
from tests.support.chromium import Chromium, Tab, chromium
from tests.support.oauth_setup import INTEGRATOR, RETURN, OAuthSetup, oauth_setup

pytestmark = pytest.mark.drills


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[OAuthSetup]:
    """Two organizations at a simulator, not known here."""
    async with oauth_setup(database) as made:
        yield made


@pytest.fixture
async def browser() -> AsyncIterator[Chromium]:
    """A browser without a window."""
    async with chromium() as running:
        yield running


async def consent(setup: OAuthSetup, tab: Tab, user: str, decision: str = "allow") -> None:
    """On Calendly's page: choose who one is, and decide."""
    assert (await tab.address()).startswith(f"{setup.calendly.url}/oauth/authorize?")
    assert await tab.evaluate("document.referrer") == "", "our pages tell no other where they are"
    await tab.choose("#user", user)
    await tab.press(f"#{decision}")


async def test_a_customer_connects(setup: OAuthSetup, browser: Chromium) -> None:
    """From the link over Calendly's consent to the page that says it is live; denied first, and then allowed."""
    made, tab = await setup.link(customer="Customer Three"), await browser.tab(await browser.person())
    for decision, title in (("deny", "Not connected"), ("allow", "Connected")):
        await tab.open(made.url)
        assert INTEGRATOR in await tab.text()
        assert "Customer Three" in await tab.text()
        await tab.press("#connect")
        await consent(setup, tab, setup.user(), decision)
        assert (await tab.address()).startswith(f"{setup.url}/oauth/calendly/callback?")
        assert title in await tab.text()
    assert await tab.evaluate("document.cookie") == "", "no page can read the cookie"
    assert len(setup.calendly.engine.ledger.subscriptions()) == 1
    await setup.simulate("book", organization=setup.org())
    await setup.settled()
    assert len(await setup.rows("SELECT FROM slotwire.events WHERE type LIKE '%invitee.created%'")) == 1


async def test_another_person_cannot_finish_a_flow(setup: OAuthSetup, browser: Chromium) -> None:
    """The callback's address, opened in another browser, connects nothing; its own one still can."""
    made = await setup.link()
    mine, other = await browser.tab(await browser.person()), await browser.tab(await browser.person())
    await mine.open(made.url)
    await mine.press("#connect")
    back = await setup.decide(await mine.address(), setup.user())
    await other.open(back)
    assert "did not begin" in await other.text()
    assert await setup.rows("SELECT FROM slotwire.connections") == []
    await mine.open(back)
    assert "Connected" in await mine.text()


async def test_a_scanner_that_opens_the_link_spends_nothing(setup: OAuthSetup, browser: Chromium) -> None:
    """A mail scanner opens the link in a browser of its own, again and again: no row changes, and the button works."""
    made = await setup.link()
    before = await setup.rows("SELECT l::text FROM slotwire.connect_links l")
    scanner, mine = await browser.tab(await browser.person()), await browser.tab(await browser.person())
    for _ in range(3):
        await scanner.open(made.url)
        assert INTEGRATOR in await scanner.text()
    assert await setup.rows("SELECT l::text FROM slotwire.connect_links l") == before
    await mine.open(made.url)
    await mine.press("#connect")
    await consent(setup, mine, setup.user())
    assert "Connected" in await mine.text()


async def test_two_tabs_and_a_used_link(setup: OAuthSetup, browser: Chromium) -> None:
    """Two tabs of one person have a cookie each: the first connects, the second and a third are told so."""
    made, person = await setup.link(), await browser.person()
    first, second = await browser.tab(person), await browser.tab(person)
    for tab in (first, second):
        await tab.open(made.url)
        await tab.press("#connect")
    await consent(setup, first, setup.user())
    assert "Connected" in await first.text()
    await consent(setup, second, setup.user(1))
    assert "used already" in await second.text()
    await first.open(made.url)
    assert "used already" in await first.text()
    assert len(setup.calendly.engine.ledger.subscriptions()) == 1


async def test_a_foreign_page_cannot_press_the_button(setup: OAuthSetup, browser: Chromium) -> None:
    """A form of another site is refused, and the page cannot be framed by one."""
    made, tab = await setup.link(), await browser.tab(await browser.person())
    ticket = made.url.partition("ticket=")[2]
    start = made.url.partition("?")[0]
    foreign = start.replace("127.0.0.1", "localhost")
    await tab.open(f"{setup.calendly.url}/simulator/clock")
    form = f"<form method=post action={start}><input name=ticket value={ticket}><button id=connect>x</button></form>"
    await tab.evaluate(f"document.documentElement.innerHTML = {form!r}")
    await tab.press("#connect")
    if "Open the link you got yourself" not in await tab.text():
        # The same host on another port is the same site to a browser: go there from a host that is another one.
        await tab.open(foreign)
        await tab.evaluate(f"document.documentElement.innerHTML = {form!r}")
        await tab.press("#connect")
    assert "Open the link you got yourself" in await tab.text()
    assert await setup.rows("SELECT FROM slotwire.connections") == []


async def test_a_forwarded_link_waits_for_the_backend(setup: OAuthSetup, browser: Chromium) -> None:
    """With a return address the browser lands there with a code, and nothing is subscribed."""
    made, tab = await setup.link(return_url=RETURN), await browser.tab(await browser.person())
    await tab.open(made.url)
    await tab.press("#connect")
    await tab.choose("#user", setup.user(number=1))
    await tab.press("#allow")
    [row] = await setup.rows(
        "SELECT l.return_url FROM slotwire.pending_connections p JOIN slotwire.connect_links l ON l.id = p.link_id"
    )
    assert row["return_url"] == RETURN
    assert setup.calendly.engine.ledger.subscriptions() == ()


async def test_answers_that_were_tampered_with(setup: OAuthSetup, browser: Chromium) -> None:
    """Another server's name, another organization, an added address, the same answer again: each gets its page."""
    await setup.connect()
    made, tab = await setup.link(organization=setup.org()), await browser.tab(await browser.person())

    async def answered(user: str) -> str:
        await tab.open(made.url)
        await tab.press("#connect")
        return await setup.decide(await tab.address(), user)

    await tab.open(re.sub("iss=[^&]+", "iss=https%3A%2F%2Fevil.example.com", await answered(setup.user(1))))
    assert "wrong place" in await tab.text()
    await tab.open(await answered(setup.user(number=1)))
    assert "another Calendly organization" in await tab.text()
    back = await answered(setup.user(1)) + "&return_url=https://evil.example.com&redirect_uri=https://evil.example.com"
    await tab.open(back)
    assert "Connected" in await tab.text()
    assert (await tab.address()).startswith(setup.url)
    await tab.open(back)
    assert "did not begin" in await tab.text(), "its cookie went with the first answer"
    assert len(setup.calendly.engine.ledger.subscriptions()) == 1
