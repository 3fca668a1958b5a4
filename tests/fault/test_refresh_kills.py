"""A `control` killed (SIGKILL) at any await of a refresh: the next one goes on, or the loss of the grant is said."""

from __future__ import annotations

import random
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from slotwire.ingest.control.calendly_client.uses import Bearer
from slotwire.ingest.control.connection_records import ConnectionRecord, read_stored
from slotwire.ingest.control.oauth_refresh import DEADLINE
from slotwire.ingest.local.databases import Database
from tests.support.dying_control import NEVER, Ended, control_until
from tests.support.oauth_connections import connected, refreshed, told
from tests.support.oauth_setup import OAuthSetup, oauth_environment, oauth_setup

HALF = timedelta(hours=1, seconds=1)
"""Half of a token's life, and a moment."""
SEED = "refresh kills 35"
"""Of two awaits that it draws one is before Calendly's answer, and one between that and our commit."""


async def process(setup: OAuthSetup, folder: Path, place: int = NEVER) -> Ended:
    """Let a `control` of its own refresh, and die at its n-th await."""
    app = oauth_environment(setup.settings, port=0)
    return await control_until(setup.settings, setup.clock, folder, "Refresher._counted", place, **app)


async def works(setup: OAuthSetup, record: ConnectionRecord) -> bool:
    """Ask Calendly whether a connection's refresh token is good."""
    refresher = setup.connections.oauth
    assert refresher is not None
    token = refresher._open(await read_stored(setup.api.actions.pool, record.id, None))
    return await setup.flow.client.introspect(token, user=record.user_uri, by=Bearer())


async def killed_at(setup: OAuthSetup, folder: Path, place: int) -> tuple[Ended, bool]:
    """Kill a process at a place of a refresh, and let another go on; how did it end, and is the grant lost?"""
    before = await connected(setup)  # after a loss: the customer connects again
    spent = (await refreshed(setup)).get(before.user_uri, 0)
    setup.clock.advance(HALF)
    ended = await process(setup, folder, place)
    if (await setup.connections.get(before.id)).credential_id == before.credential_id:
        setup.clock.advance(DEADLINE)
        await process(setup, folder)
    found = await setup.connections.get(before.id)
    assert await works(setup, found) == (found.state == "active"), f"seed {SEED}, await {place}"
    assert (await refreshed(setup))[before.user_uri] - spent == 1, f"seed {SEED}, await {place}: one refresh"
    if found.state == "active":
        assert found.credential_id != before.credential_id
        return ended, False
    assert (found.reason, ended.killed) == ("grant_lost", True), f"seed {SEED}, await {place}"
    return ended, True


@pytest.mark.parametrize("share", [2, pytest.param(None, marks=pytest.mark.soak)], ids=["sample", "all"])
async def test_a_refresh_whose_process_is_killed_loses_only_what_calendly_had_answered(
    share: int | None, database: Database, tmp_path: Path
) -> None:
    """Wherever it gets its SIGKILL, Calendly refreshes once, and the grant is lost only after Calendly's answer."""
    async with oauth_setup(database, organizations=1, with_writer=False, endpoint=False) as setup:
        whole, lost = await killed_at(setup, tmp_path, NEVER)
        assert (whole.killed, lost) == (False, False)
        places = list(range(1, whole.waits + 1))
        if share is not None:
            places = sorted(random.Random(SEED).sample(places, share))  # noqa: S311 - places, not secrets
        losses = [place for place in places if (await killed_at(setup, tmp_path, place))[1]]
        if share is None:
            assert 0 < len(losses) < len(places)
        kinds = Counter({kind: len(await told(setup, kind)) for kind in ("revoked", "restored")})
        after = int(bool(losses) and losses[-1] == places[-1])  # nobody has connected again yet
        assert kinds == Counter({"revoked": len(losses), "restored": len(losses) - after})
        sys.stdout.write(f"seed {SEED!r}: killed at {places} of {whole.waits} awaits, the grant was lost at {losses}\n")
