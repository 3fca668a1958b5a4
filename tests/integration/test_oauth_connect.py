"""A customer connects in the browser: from a link to live events, and every attack on that way."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from slotwire.ingest.control.oauth_flow import MAX_VALUE, STATE_LIFE
from slotwire.ingest.control.oauth_listener import MAX_BODY_BYTES
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.connect_link_models import CodeRequest
from slotwire.ingest.operate.organization_models import RenameRequest
from slotwire.ingest.operate.roles import COMMAND_LINE
from slotwire.schemas.events import ConnectionRevoked
from tests.support.oauth_setup import INTEGRATOR, RETURN, OAuthSetup, oauth_setup


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[OAuthSetup]:
    """Two organizations at a simulator, not known here."""
    async with oauth_setup(database) as made:
        yield made


async def nothing(setup: OAuthSetup) -> bool:
    """Return whether nothing came of it: no connection, no subscription, nothing that waits, no grant at Calendly."""
    rows = [await setup.rows(f"SELECT FROM slotwire.{name}") for name in ("connections", "pending_connections")]
    grants = (await setup.client.get(f"{setup.calendly.url}/simulator/oauth")).json()["grants"]
    return rows == [[], []] and setup.calendly.engine.ledger.subscriptions() == () and grants == 0


async def test_from_a_link_to_live_events(setup: OAuthSetup) -> None:
    """Consent is all it takes: connection, subscription with the app's key, events under the customer's name."""
    made = await setup.link(backfill_days=30, customer="Customer & Daughters")
    browser = setup.browser()
    start = await browser.get(made.url)
    assert INTEGRATOR in start.text
    assert "Customer &amp; Daughters" in start.text
    page = await setup.consent(made.url, setup.user(), browser)
    assert page.status_code == 200
    assert "Connected" in page.text
    assert "are being fetched" in page.text
    [row] = await setup.rows("SELECT * FROM slotwire.connections")
    assert (row["kind"], row["state"], row["role"], row["org"]) == ("oauth", "active", "owner", setup.org())
    [subscription] = setup.calendly.engine.ledger.subscriptions()
    assert (subscription.app, subscription.signing_key) == (True, None)
    [due] = await setup.rows("SELECT backfill_from, external_id FROM slotwire.organizations")
    assert due["backfill_from"] is not None
    assert due["external_id"] == "customer-1"
    await setup.simulate("book", organization=setup.org())
    await setup.settled()
    [event] = await setup.rows("SELECT tenant FROM slotwire.events WHERE type LIKE '%invitee.created%'")
    assert event["tenant"] == "customer-1"
    assert len(await setup.events("connected")) == 1
    [counted] = await setup.rows("SELECT user_uri, spent FROM slotwire.rate_budgets WHERE kind = 'token'")
    assert (counted["user_uri"], sum(counted["spent"])) == (row["user_uri"], 1), "the request for its tokens"
    link = await setup.api.actions.connect_links.get(COMMAND_LINE, made.id)
    assert (link.state, link.connection_id, link.organization) == ("connected", row["id"], setup.org())
    used = await setup.rows("SELECT action, actor FROM slotwire.uses WHERE result = 'started'")
    for action in ("oauth-exchange", "get-current-user", "createwebhooks"):
        assert (action, str(made.id)) in map(tuple, used), "on behalf of whoever consented"


async def test_every_page_is_stored_by_nobody_and_tells_nobody(setup: OAuthSetup) -> None:
    """Start, redirect, callback and unknown addresses: no-store, no-referrer, a policy, and a cookie for this flow."""
    made, browser = await setup.link(), setup.browser()
    pages = [await browser.get(made.url), await browser.get(f"{setup.url}/oauth/other"), await browser.get(setup.url)]
    consent = await setup.start(browser, made.url)
    pages.append(await browser.get(await setup.decide(consent, setup.user())))
    assert [page.status_code for page in pages] == [200, 404, 404, 200]
    for page in pages:
        assert (page.headers["Cache-Control"], page.headers["Referrer-Policy"]) == ("no-store", "no-referrer")
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
        assert "<script" not in page.text
    cookie = browser.set_cookies[0]
    assert {"HttpOnly", "Secure", "SameSite=Lax", "Path=/oauth/calendly"} <= {
        part.strip() for part in cookie.split(";")
    }
    state = parse_qs(urlsplit(consent).query)["state"][0]
    assert state not in cookie
    assert browser.cookies == {}, "the callback takes it away"


async def test_a_prefetching_scanner_changes_nothing(setup: OAuthSetup) -> None:
    """However often a scanner opens the link, no row changes, and the customer's button still works."""
    made = await setup.link()
    before = await setup.rows("SELECT l::text FROM slotwire.connect_links l")
    for _ in range(3):
        scanner = setup.browser()
        assert (await scanner.get(made.url)).status_code == 200
        assert scanner.cookies == {}
        asked = await setup.client.head(made.url)
        assert (asked.status_code, asked.content, asked.headers["content-type"][:9]) == (200, b"", "text/html")
        assert (await setup.client.head(f"{setup.url}/oauth/calendly/callback?state=s&code=c")).status_code == 405
    assert await setup.rows("SELECT l::text FROM slotwire.connect_links l") == before
    assert (await setup.consent(made.url, setup.user())).status_code == 200


async def test_another_browsers_state_is_refused(setup: OAuthSetup) -> None:
    """A callback in a browser that did not begin the flow (session fixation) connects nothing, and spends nothing."""
    made, attacker, victim = await setup.link(), setup.browser(), setup.browser()
    back = await setup.decide(await setup.start(attacker, made.url), setup.user())
    page = await victim.get(back)
    assert page.status_code == 400
    assert "did not begin" in page.text
    await setup.start(victim, made.url)
    assert (await victim.get(back)).status_code == 400, "another state's cookie does not help"
    assert await nothing(setup)
    assert (await attacker.get(back)).status_code == 200


async def test_a_used_ticket_is_over(setup: OAuthSetup) -> None:
    """After the first success neither page, button nor a flow that had begun goes on; what it brings is given back."""
    made, late = await setup.link(), setup.browser()
    begun = await setup.start(late, made.url)
    assert (await setup.consent(made.url, setup.user())).status_code == 200
    page = await setup.browser().get(made.url)
    assert page.status_code == 409
    assert "used already" in page.text
    ticket = parse_qs(urlsplit(made.url).query)["ticket"][0]
    assert (await setup.browser().post(made.url.partition("?")[0], {"ticket": ticket})).status_code == 409
    assert (await late.get(await setup.decide(begun, setup.user(1)))).status_code == 409
    assert len(await setup.rows("SELECT FROM slotwire.connections")) == 1


async def test_two_tabs_do_not_disturb_each_other(setup: OAuthSetup) -> None:
    """Each tab has its own state and cookie: the one that finishes first connects, the other is told so."""
    made, browser = await setup.link(), setup.browser()
    first, second = await setup.start(browser, made.url), await setup.start(browser, made.url)
    assert len(browser.cookies) == 2
    assert (await browser.get(await setup.decide(first, setup.user()))).status_code == 200
    assert (await browser.get(await setup.decide(second, setup.user()))).status_code == 409
    assert len(setup.calendly.engine.ledger.subscriptions()) == 1


async def test_a_replayed_code_connects_nothing(setup: OAuthSetup) -> None:
    """The same answer again, in the same browser with its cookie kept, is refused; so is a code of another flow."""
    made, browser = await setup.link(), setup.browser()
    back = await setup.decide(await setup.start(browser, made.url), setup.user())
    kept = dict(browser.cookies)
    assert (await browser.get(back)).status_code == 200
    browser.cookies = kept
    assert (await browser.get(back)).status_code == 409
    other = await setup.link(external_id="customer-2")
    stolen = await setup.decide(await setup.start(browser, other.url), setup.user(number=1))
    mine = await setup.decide(await setup.start(browser, other.url), setup.user(number=1))
    code = parse_qs(urlsplit(stolen).query)["code"][0]
    swapped = re.sub(r"code=[^&]+", f"code={code}", mine)
    page = await browser.get(swapped)
    assert page.status_code == 400
    assert "did not accept" in page.text
    assert len(await setup.rows("SELECT FROM slotwire.connections")) == 1


async def test_a_mixed_up_issuer_is_refused_before_the_code_is_used(setup: OAuthSetup) -> None:
    """An answer in another server's name is not taken to ours; the right one still works."""
    made, browser = await setup.link(), setup.browser()
    back = await setup.decide(await setup.start(browser, made.url), setup.user())
    wrong = re.sub(r"iss=[^&]+", "iss=https%3A%2F%2Fevil.example.com", back)
    page = await browser.get(wrong)
    assert page.status_code == 400
    assert "wrong place" in page.text
    assert await nothing(setup)
    assert (await browser.get(back)).status_code == 200


async def test_a_wrong_organization_is_refused(setup: OAuthSetup) -> None:
    """A link for one organization connects no other, and the grant is given back; the right user can go on."""
    await setup.connect()
    made = await setup.link(organization=setup.org())
    page = await setup.consent(made.url, setup.user(number=1))
    assert page.status_code == 403
    assert "another Calendly organization" in page.text
    assert len(await setup.rows("SELECT FROM slotwire.connections")) == 1
    assert (await setup.client.get(f"{setup.calendly.url}/simulator/oauth")).json()["grants"] == 1
    assert (await setup.consent(made.url, setup.user(1))).status_code == 200


async def test_an_organization_is_never_relabelled(setup: OAuthSetup) -> None:
    """One that is known under another name is refused, and keeps it; so is a name that another one has."""
    await setup.connect(number=0)
    again = await setup.link(external_id="customer-of-somebody-else")
    page = await setup.consent(again.url, setup.user())
    assert page.status_code == 409
    assert "connected already" in page.text
    taken = await setup.link(external_id="customer-0")
    assert (await setup.consent(taken.url, setup.user(number=1))).status_code == 409
    assert [row["external_id"] for row in await setup.rows("SELECT external_id FROM slotwire.organizations")] == [
        "customer-0"
    ]


async def test_a_return_address_is_one_of_the_list(setup: OAuthSetup) -> None:
    """Another one is refused when the link is made, so that no link redirects elsewhere."""
    with pytest.raises(RequestRefused) as caught:
        await setup.link(return_url="https://evil.example.com/connected")
    assert caught.value.code == "return_url_refused"


async def test_a_parameter_of_the_browser_redirects_nowhere(setup: OAuthSetup) -> None:
    """Whatever is added to start or callback, the browser goes to Calendly and to the stored address only."""
    made, browser = await setup.link(return_url=f"{RETURN}?state=mine"), setup.browser()
    evil = "&return_url=https://evil.example.com&redirect_uri=https://evil.example.com"
    consent = await setup.start(browser, made.url + evil)
    assert consent.startswith(f"{setup.calendly.url}/oauth/authorize?")
    assert parse_qs(urlsplit(consent).query)["redirect_uri"] == [f"{setup.url}/oauth/calendly/callback"]
    answer = await browser.get(await setup.decide(consent, setup.user()) + evil)
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith(f"{RETURN}?state=mine&connect_code=")


async def test_a_forwarded_link_connects_nothing_until_the_backend_agrees(setup: OAuthSetup) -> None:
    """With a return address a stranger's consent waits, unread and unsubscribed, and ends if nobody takes its code."""
    made = await setup.link(return_url=RETURN)
    before = len(setup.calendly.gate.calls.listing(0, 1000, lambda _: True))
    answer = await setup.consent(made.url, setup.user(number=1))
    assert answer.status_code == 303
    assert len(setup.calendly.gate.calls.listing(0, 1000, lambda _: True)) == before, "nothing was read"
    assert setup.calendly.engine.ledger.subscriptions() == ()
    assert await setup.rows("SELECT FROM slotwire.connections") == []
    assert (await setup.api.actions.connect_links.get(COMMAND_LINE, made.id)).state == "pending"
    code = parse_qs(urlsplit(answer.headers["Location"]).query)["connect_code"][0]
    assert (
        code.encode()
        not in (await setup.rows("SELECT sealed || code_hash AS all FROM slotwire.pending_connections"))[0]["all"]
    )
    setup.clock.advance(timedelta(minutes=10))
    unreadable = await setup.link(external_id="customer-2", return_url=RETURN)
    row = "SELECT id, ''::bytea, ''::bytea, created_at, created_at FROM slotwire.connect_links WHERE id = $1"
    await setup.rows(f"INSERT INTO slotwire.pending_connections {row}", unreadable.id)
    assert await setup.flow.revoke_late() == 2
    assert await nothing(setup)
    with pytest.raises(RequestRefused) as caught:
        await setup.api.actions.connect_links.exchange(COMMAND_LINE, made.id, CodeRequest(code=code))
    assert caught.value.code == "code_unknown"


async def test_the_backend_presents_the_code_once(setup: OAuthSetup) -> None:
    """Then it is live; a second time, or for another link, the code is unknown."""
    made, other = await setup.link(return_url=RETURN), await setup.link(external_id="customer-2", return_url=RETURN)
    answer = await setup.consent(made.url, setup.user())
    code = CodeRequest(code=parse_qs(urlsplit(answer.headers["Location"]).query)["connect_code"][0])
    with pytest.raises(RequestRefused):
        await setup.api.actions.connect_links.exchange(COMMAND_LINE, other.id, code)
    live = await setup.api.actions.connect_links.exchange(COMMAND_LINE, made.id, code)
    assert (live.organization, live.subscribed, live.link.state) == (setup.org(), True, "connected")
    with pytest.raises(RequestRefused):
        await setup.api.actions.connect_links.exchange(COMMAND_LINE, made.id, code)
    assert len(setup.calendly.engine.ledger.subscriptions()) == 1


async def test_each_consent_that_connects_is_in_the_audit(setup: OAuthSetup) -> None:
    """By its link, to its connection; at once, or when the backend presents the code. A denial leaves nothing."""
    first, waits = await setup.link(), await setup.link(external_id="customer-2", return_url=RETURN)
    browser = setup.browser()
    await browser.get(await setup.decide(await setup.start(browser, first.url), setup.user(), "deny"))
    assert (await setup.consent(first.url, setup.user(), browser)).status_code == 200
    answer = await setup.consent(waits.url, setup.user(number=1))
    read = (
        "SELECT actor, role, org, target, result FROM slotwire.audit WHERE action = 'connections.consent' ORDER BY id"
    )
    assert [row["result"] for row in await setup.rows(read)] == ["started", "done"], "nothing is stored for the second"
    code = parse_qs(urlsplit(answer.headers["Location"]).query)["connect_code"][0]
    await setup.api.actions.connect_links.exchange(COMMAND_LINE, waits.id, CodeRequest(code=code))
    made = {row["org"]: row["id"] for row in await setup.rows("SELECT org, id FROM slotwire.connections")}
    assert [tuple(row) for row in await setup.rows(read) if row["result"] == "done"] == [
        (str(link.id), "operator", setup.org(number), str(made[setup.org(number)]), "done")
        for number, link in enumerate((first, waits))
    ]


async def test_a_denial_gets_a_page_and_leaves_the_link(setup: OAuthSetup) -> None:
    """The customer's no changes nothing, and they may think again."""
    made, browser = await setup.link(), setup.browser()
    page = await browser.get(await setup.decide(await setup.start(browser, made.url), setup.user(), "deny"))
    assert page.status_code == 200
    assert "Not connected" in page.text
    assert await nothing(setup)
    assert (await setup.consent(made.url, setup.user())).status_code == 200


async def test_links_and_states_end(setup: OAuthSetup) -> None:
    """A link past its life opens nothing; a callback that comes too late is another browser's as far as we know."""
    made, browser = await setup.link(life_seconds=86_400), setup.browser()
    consent = await setup.start(browser, made.url)
    setup.clock.advance(STATE_LIFE + timedelta(seconds=1))
    assert (await browser.get(await setup.decide(consent, setup.user()))).status_code == 400
    setup.clock.advance(timedelta(days=1))
    assert (await browser.get(made.url)).status_code == 404
    assert (await setup.client.get(f"{setup.url}/oauth/calendly/start?ticket=unknown")).status_code == 404
    withdrawn = await setup.link()
    await setup.api.actions.connect_links.withdraw(COMMAND_LINE, withdrawn.id)
    assert (await browser.get(withdrawn.url)).status_code == 404
    assert await nothing(setup)


async def test_a_plain_member_alone_is_not_half_live(setup: OAuthSetup) -> None:
    """Without an admin nothing is stored, the page says who is needed, and the same link works for them."""
    made = await setup.link()
    page = await setup.consent(made.url, setup.user(2))
    assert page.status_code == 403
    assert "An owner or admin is needed" in page.text
    assert await nothing(setup)
    assert (await setup.consent(made.url, setup.user(1))).status_code == 200


async def test_a_plain_member_gives_an_organization_no_name(setup: OAuthSetup) -> None:
    """A link with a name waits for an admin while the organization has none; then it has it, and members may join."""
    await setup.connect()
    await setup.api.actions.organizations.rename(COMMAND_LINE, setup.org(), RenameRequest(external_id=None))
    made = await setup.link(external_id="customer-9")
    page = await setup.consent(made.url, setup.user(2))
    assert page.status_code == 403
    assert "An owner or admin is needed" in page.text
    assert len(await setup.rows("SELECT FROM slotwire.connections")) == 1
    assert (await setup.api.actions.connect_links.get(COMMAND_LINE, made.id)).state == "open"
    assert (await setup.consent(made.url, setup.user(1))).status_code == 200
    assert (await setup.rows("SELECT external_id FROM slotwire.organizations"))[0]["external_id"] == "customer-9"
    again = await setup.link(external_id="customer-9")
    assert (await setup.consent(again.url, setup.user(2))).status_code == 200


async def test_more_consents_make_no_second_hook(setup: OAuthSetup) -> None:
    """A second admin's consent, a plain member's, and the first one's again: one organization hook."""
    await setup.connect()
    for place in (1, 2, 0):
        made = await setup.link(organization=setup.org())
        assert (await setup.consent(made.url, setup.user(place))).status_code == 200
    assert len(setup.calendly.engine.ledger.subscriptions()) == 1
    roles = await setup.rows("SELECT role FROM slotwire.connections ORDER BY created_at")
    assert [row["role"] for row in roles] == ["owner", "admin", "user"]
    assert len(await setup.events("connected")) == 3


async def test_no_secret_of_the_flow_is_logged(setup: OAuthSetup, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither ticket, code, state nor a token is in any line, whatever happens."""
    made, browser = await setup.link(), setup.browser()
    back = await setup.decide(await setup.start(browser, made.url), setup.user())
    await setup.browser().get(back)
    assert (await browser.get(back)).status_code == 200
    await setup.simulate("faults", token_error_rate=1)
    failed = await setup.link(external_id="customer-2")
    assert (await setup.consent(failed.url, setup.user(number=1))).status_code == 502
    said = "".join(capfd.readouterr())
    query = parse_qs(urlsplit(back).query)
    ticket = parse_qs(urlsplit(made.url).query)["ticket"][0]
    assert "flow_stopped" in said
    for secret in (ticket, query["code"][0], query["state"][0], "eyJ"):
        assert secret not in said


async def test_a_customer_who_disconnects_leaves_no_hook(setup: OAuthSetup) -> None:
    """Alone, the hook is deleted before the grant is revoked, and wanted still; one event says so."""
    await setup.connect()
    [row] = await setup.rows("SELECT id FROM slotwire.connections")
    gone = await setup.api.actions.connections.delete(COMMAND_LINE, None, row["id"])
    assert gone.id == row["id"]
    assert await nothing(setup)
    [event] = await setup.events("revoked")
    assert ConnectionRevoked.model_validate_json(event["data"]).reason == "disconnected"
    await setup.connect()
    assert len(setup.calendly.engine.ledger.subscriptions()) == 1


async def test_hooks_of_a_connection_that_ends_are_replaced_through_another(setup: OAuthSetup) -> None:
    """With another admin the hook is replaced before the grant goes: what is booked then arrives once."""
    await setup.connect()
    made = await setup.link(organization=setup.org())
    assert (await setup.consent(made.url, setup.user(1))).status_code == 200
    [row] = await setup.rows("SELECT id FROM slotwire.connections WHERE role = 'owner'")
    [before] = setup.calendly.engine.ledger.subscriptions()
    await setup.api.actions.connections.delete(COMMAND_LINE, None, row["id"])
    found = setup.calendly.engine.ledger.subscriptions()
    assert {each.creator for each in found} - {before.creator} == {setup.user(1)}, "made before the grant is revoked"
    assert (await setup.client.get(f"{setup.calendly.url}/simulator/oauth")).json()["grants"] == 1
    await setup.simulate("book", organization=setup.org())
    await setup.settled()
    assert len(await setup.rows("SELECT FROM slotwire.events WHERE type LIKE '%invitee.created%'")) == 1


async def test_the_pages_have_limits(setup: OAuthSetup) -> None:
    """A form of the longest length is read, one octet more is refused; a value that is too long finds nothing."""
    made = await setup.link()
    start, ticket = made.url.partition("?")[0], made.url.partition("ticket=")[2]
    for length, status in ((MAX_BODY_BYTES, 303), (MAX_BODY_BYTES + 1, 413)):
        body = f"ticket={ticket}&x=".ljust(length, "x")
        answer = await setup.client.post(start, content=body)
        assert answer.status_code == status
        assert answer.headers["Cache-Control"] == "no-store"
    long = "x" * (MAX_VALUE + 1)
    assert (await setup.client.get(f"{setup.url}/oauth/calendly/callback?state={long[:3000]}")).status_code == 400
    assert (await setup.client.get(f"{start}?ticket={ticket}{long[:3000]}")).status_code == 404
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert (await setup.client.post(start, data={"ticket": ticket}, headers=foreign)).status_code == 403
