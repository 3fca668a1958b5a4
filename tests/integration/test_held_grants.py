"""A grant that comes to nothing is given back: wherever Postgres fails between Calendly's answer and the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from slotwire.ingest.control.held_grants import GIVE_BACK_AGAIN, GIVE_UP, HELD_LIFE
from slotwire.ingest.control.oauth_flow import FlowProblem, FlowStopped
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.connect_link_models import CodeRequest
from slotwire.ingest.operate.roles import COMMAND_LINE
from tests.support.oauth_setup import RETURN, OAuthSetup, oauth_setup


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[OAuthSetup]:
    """Two organizations, not known here; what cannot be kept at once is given back at once."""
    async with oauth_setup(database, with_writer=False, endpoint=False, keep_seconds=0) as made:
        yield made


@asynccontextmanager
async def failing(setup: OAuthSetup, change: str, error: str = "admin_shutdown") -> AsyncIterator[None]:
    """Let Postgres refuse a change of a table, by default as a server that is going down does."""
    away = f"BEGIN RAISE EXCEPTION 'going down' USING ERRCODE = '{error}'; END"
    await setup.rows(f"CREATE FUNCTION slotwire.away() RETURNS trigger LANGUAGE plpgsql AS $${away}$$")
    await setup.rows(f"CREATE TRIGGER away BEFORE {change} FOR EACH ROW EXECUTE FUNCTION slotwire.away()")
    yield
    await setup.rows("DROP FUNCTION slotwire.away() CASCADE")


async def grants(setup: OAuthSetup) -> int:
    """How many grants Calendly has."""
    found: int = (await setup.client.get(f"{setup.calendly.url}/simulator/oauth")).json()["grants"]
    return found


async def held(setup: OAuthSetup) -> int:
    """How many grants are in hand."""
    return len(await setup.rows("SELECT FROM slotwire.pending_connections"))


async def test_a_grant_that_cannot_be_kept_is_given_back(setup: OAuthSetup, capfd: pytest.CaptureFixture[str]) -> None:
    """Page and log say so, Calendly has none, and the same link connects as soon as Postgres is back."""
    made = await setup.link()
    async with failing(setup, "UPDATE OF sealed ON slotwire.pending_connections"):
        page = await setup.consent(made.url, setup.user())
    assert (page.status_code, await grants(setup), await held(setup)) == (503, 0, 0)
    assert "given back" in page.text
    said = "".join(capfd.readouterr())
    assert "grant_not_kept" in said
    assert str(made.id) in said
    async with failing(setup, "INSERT ON slotwire.pending_connections"):
        assert (await setup.consent(made.url, setup.user())).status_code == 503
        assert await grants(setup) == 0, "without a row Calendly is not asked"
    assert (await setup.consent(made.url, setup.user())).status_code == 200
    assert (await grants(setup), await held(setup)) == (1, 0)


async def test_a_grant_is_kept_once_postgres_is_back(database: Database, capfd: pytest.CaptureFixture[str]) -> None:
    """Within seconds: the customer waits for the page, and is connected."""
    async with oauth_setup(database, with_writer=False, endpoint=False) as setup:
        made, said = await setup.link(), ""
        async with asyncio.TaskGroup() as group, failing(setup, "UPDATE OF sealed ON slotwire.pending_connections"):
            consenting = group.create_task(setup.consent(made.url, setup.user()))
            while "grant_not_kept" not in said:
                assert await held(setup) <= 1
                said += "".join(capfd.readouterr())
        assert consenting.result().status_code == 200
        assert (await grants(setup), await held(setup)) == (1, 0)


async def test_a_grant_that_postgres_refuses_to_keep_is_given_back(setup: OAuthSetup) -> None:
    """Not an outage, which would be waited for: another schema than this version knows, or a row that is too large."""
    made = await setup.link()
    for error in ("undefined_column", "program_limit_exceeded"):
        async with failing(setup, "UPDATE OF sealed ON slotwire.pending_connections", error):
            page = await setup.consent(made.url, setup.user())
        assert page.status_code >= 500
        assert (await grants(setup), await held(setup)) == (0, 0)
    assert (await setup.consent(made.url, setup.user())).status_code == 200


@pytest.mark.parametrize("change", ["UPDATE ON slotwire.connect_links", "INSERT ON slotwire.connections"])
async def test_a_grant_that_cannot_be_stored_is_given_back(setup: OAuthSetup, change: str) -> None:
    """It is in hand, as after its process's death, until its time is over; then Calendly has none, the link works."""
    made = await setup.link(backfill_days=3)
    async with failing(setup, change):
        page = await setup.consent(made.url, setup.user())
    assert (page.status_code, await grants(setup), await held(setup)) == (503, 1, 1)
    assert "given back" in page.text
    if "connect_links" in change:
        busy = await setup.consent(made.url, setup.user())
        assert (busy.status_code, await grants(setup)) == (409, 1), "the other flow's grant is settled first"
        assert "being used" in busy.text
    assert await setup.flow.revoke_late() == 0
    setup.clock.advance(HELD_LIFE)
    again = await setup.link(backfill_days=3)
    assert await setup.flow.revoke_late() == 1
    assert (await grants(setup), await held(setup)) == (0, 0)
    assert await setup.rows("SELECT FROM slotwire.connections") == []
    [row] = await setup.rows("SELECT spent_at FROM slotwire.connect_links WHERE id = $1", made.id)
    assert row["spent_at"] is None
    assert (await setup.consent(again.url, setup.user())).status_code == 200
    [due] = await setup.rows("SELECT backfill_from FROM slotwire.organizations")
    assert due["backfill_from"] is not None


async def test_a_grant_that_waited_for_a_code_is_given_back(setup: OAuthSetup) -> None:
    """Where Postgres fails as the backend presents it: the answer is 503, the code is used up, and the grant goes."""
    made = await setup.link(return_url=RETURN)
    answer = await setup.consent(made.url, setup.user())
    code = CodeRequest(code=parse_qs(urlsplit(answer.headers["Location"]).query)["connect_code"][0])
    async with failing(setup, "INSERT ON slotwire.connections"):
        with pytest.raises(FlowStopped) as caught:
            await setup.api.actions.connect_links.exchange(COMMAND_LINE, made.id, code)
    assert caught.value.problem is FlowProblem.NOT_KEPT
    setup.clock.advance(HELD_LIFE)
    assert await setup.flow.revoke_late() == 1
    assert (await grants(setup), await held(setup)) == (0, 0)


async def test_a_grant_that_calendly_does_not_take_back_is_tried_for_a_day(setup: OAuthSetup) -> None:
    """Each minute, until Calendly answers; after a day it is left there, and no row stays."""
    held_grants, oauth = setup.flow.held, setup.flow.client
    refused = replace(held_grants, client=replace(oauth, client_secret=SecretStr("another")))
    for number, ends in enumerate((held_grants, refused)):
        made = await setup.link(external_id=f"customer-{number}", return_url=RETURN)
        assert (await setup.consent(made.url, setup.user(number=number))).status_code == 303
        setup.clock.advance(timedelta(minutes=10))
        assert await refused.revoke_late() == 1
        assert (await held(setup), await grants(setup)) == (1, 1)
        setup.clock.advance(GIVE_BACK_AGAIN if ends is held_grants else GIVE_UP)
        assert await ends.revoke_late() == 1
        assert (await held(setup), await grants(setup)) == (0, number)


async def test_a_grant_whose_process_died_is_told(setup: OAuthSetup, capfd: pytest.CaptureFixture[str]) -> None:
    """A process that died while it asked leaves a row without a grant: the log names the link, and that works again."""
    made = await setup.link()
    assert await setup.flow.held.begin(await setup.flow.links.get(made.id)) is not None
    assert (await setup.consent(made.url, setup.user())).status_code == 409
    setup.clock.advance(HELD_LIFE)
    assert await setup.flow.revoke_late() == 1
    said = "".join(capfd.readouterr())
    assert "grant_lost" in said
    assert str(made.id) in said
    again = await setup.link()
    assert (await setup.consent(again.url, setup.user())).status_code == 200


async def test_an_organization_that_is_removed_leaves_no_grant(setup: OAuthSetup) -> None:
    """What its users had granted is revoked before the rows that know of it go."""
    for place in (0, 1):
        made = await setup.link(**({} if place == 0 else {"organization": setup.org()}))
        assert (await setup.consent(made.url, setup.user(place))).status_code == 200
    assert await grants(setup) == 2
    await setup.organizations.remove(setup.org())
    assert (await grants(setup), await setup.rows("SELECT FROM slotwire.connections")) == (0, [])
