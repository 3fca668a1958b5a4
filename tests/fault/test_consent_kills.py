"""A process killed (SIGKILL) at any wait after a consent: connected, or the grant given back, or its loss said."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from urllib.parse import parse_qs, urlsplit

import pytest

from slotwire.ingest.control.held_grants import HELD_LIFE
from slotwire.ingest.control.oauth_flow import Callback, cookie_of
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.roles import COMMAND_LINE
from slotwire.ingest.simulator.model import uri
from tests.support.dying_consent import NEVER, consent_until
from tests.support.oauth_setup import OAuthSetup, oauth_setup

SAMPLE = (40, 110)
"""Of some 165 waits one between Calendly's answer and the connection's commit, after some 65, and one after that."""


async def grants(setup: OAuthSetup) -> int:
    """How many grants Calendly has."""
    found: int = (await setup.client.get(f"{setup.calendly.url}/simulator/oauth")).json()["grants"]
    return found


async def killed_at(setup: OAuthSetup, place: int, capfd: pytest.CaptureFixture[str]) -> tuple[int | None, str]:
    """Kill a process at a place, let the chore of another one look, and say what became of the grant."""
    made, browser = await setup.link(), setup.browser()
    query = parse_qs(urlsplit(await setup.decide(await setup.start(browser, made.url), setup.user())).query)
    state = query["state"][0]
    waits = await consent_until(
        setup.settings,
        setup.clock,
        Callback(state, query["code"][0], "", None, browser.cookies[cookie_of(state)]),
        place,
    )
    stored = await setup.rows("SELECT id FROM slotwire.connections")
    setup.clock.advance(HELD_LIFE)
    capfd.readouterr()
    looked = await setup.flow.revoke_late()
    said = f"wait {place}"
    assert await setup.rows("SELECT FROM slotwire.pending_connections") == [], said
    link = await setup.api.actions.connect_links.get(COMMAND_LINE, made.id)
    if stored:
        assert (looked, link.state, await grants(setup)) == (0, "connected", 1), said
        assert await setup.rows("SELECT FROM slotwire.wanted_subscriptions"), f"{said}: the rounds cannot go on"
        await setup.api.actions.connections.delete(COMMAND_LINE, None, stored[0]["id"])
        return waits, "connected"
    assert link.state == "open", said
    if await grants(setup) == 0:
        return waits, "given back"
    assert "grant_lost" in "".join(capfd.readouterr()), said
    await setup.simulate("oauth", revoke_user=uri("users", setup.user()))
    return waits, "lost"


@pytest.mark.parametrize("places", [SAMPLE, pytest.param((), marks=pytest.mark.soak)], ids=["sample", "all"])
async def test_a_consent_whose_process_is_killed_leaves_no_grant_unsaid(
    places: Sequence[int], database: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    """Wherever it gets its SIGKILL the grant is stored, or given back, or, between two commits, named in the log."""
    async with oauth_setup(database, organizations=1, with_writer=False, endpoint=False) as setup:
        if not places:
            whole, became = await killed_at(setup, NEVER, capfd)
            assert (whole is not None, became) == (True, "connected")
            places = range(1, (whole or 0) + 1)
        found = {place: (await killed_at(setup, place, capfd))[1] for place in places}
        assert {"given back", "connected"} <= set(found.values())
        sys.stdout.write(f"killed at {', '.join(f'{place}: {became}' for place, became in found.items())}\n")
