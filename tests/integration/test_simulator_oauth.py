"""OAuth at the simulated Calendly: consent, refresh tokens that work once, introspection, revocation, faults, keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from slotwire.ingest.simulator.app import Options
from slotwire.ingest.simulator.oauth_grants import TOKEN_RATE, challenge_of
from slotwire.ingest.simulator.signature import signature
from slotwire.ingest.simulator.world import oauth_app
from tests.support.simulated_calendly import SimulatedCalendly, receiving, simulated_calendly

BACK = "http://127.0.0.1:9/callback"
VERIFIER = "a-verifier-of-more-than-43-characters-for-these-tests"
SCOPES = "users:read webhooks:write scheduled_events:read"


@pytest.fixture
async def calendly() -> AsyncIterator[SimulatedCalendly]:
    """A simulator with a stopped clock."""
    async with simulated_calendly(Options()) as found:
        yield found


def asked(calendly: SimulatedCalendly, **more: str) -> dict[str, str]:
    """Return the query of an authorization request."""
    app = oauth_app(calendly.running.engine.seed)
    query = {"client_id": app.client_id, "response_type": "code", "redirect_uri": BACK, "scope": SCOPES, "state": "s t"}
    return {**query, "code_challenge": challenge_of(VERIFIER), "code_challenge_method": "S256", **more}


async def decide(calendly: SimulatedCalendly, user: str, decision: str = "allow") -> dict[str, str]:
    """Pass the consent page like a script, and return what the browser brings back."""
    page = await calendly.http.get("/oauth/authorize", params=asked(calendly))
    assert page.status_code == 200
    assert user in page.text
    form = {**asked(calendly), "user": user, "decision": decision}
    origin = {"Origin": str(calendly.http.base_url).rstrip("/")}
    answer = await calendly.http.post("/oauth/authorize", data=form, headers=origin)
    assert answer.status_code == 302
    target = urlsplit(answer.headers["Location"])
    assert f"{target.scheme}://{target.netloc}{target.path}" == BACK
    return dict(parse_qsl(target.query))


async def ask(calendly: SimulatedCalendly, path: str = "token", **form: str) -> httpx.Response:
    """Call an OAuth endpoint as the app."""
    app = oauth_app(calendly.running.engine.seed)
    auth = httpx.BasicAuth(app.client_id, app.client_secret)
    return await calendly.http.post(f"/oauth/{path}", data=form, auth=auth)


async def pair(calendly: SimulatedCalendly, place: int = 0) -> dict[str, Any]:
    """Let a user consent, and exchange the code."""
    user = calendly.running.world.members(next(iter(calendly.running.world.organizations)))[place].id
    code = (await decide(calendly, user))["code"]
    answer = await ask(calendly, grant_type="authorization_code", code=code, redirect_uri=BACK, code_verifier=VERIFIER)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_consent_becomes_a_pair_that_acts_as_its_user(calendly: SimulatedCalendly) -> None:
    """The pair has Calendly's fields, its token its user and scopes, and state and issuer come back as they went."""
    owner = calendly.running.world.members(next(iter(calendly.running.world.organizations)))[0]
    back = await decide(calendly, owner.id)
    assert (back["state"], back["iss"]) == ("s t", str(calendly.http.base_url).rstrip("/"))
    found = await pair(calendly)
    assert (found["token_type"], found["expires_in"], found["scope"]) == ("Bearer", 7200, SCOPES)
    assert found["organization"] == calendly.running.organization
    head = {"Authorization": f"Bearer {found['access_token']}"}
    assert (await calendly.http.get("/users/me", headers=head)).json()["resource"]["uri"] == found["owner"]
    assert (await calendly.http.get("/event_types", headers=head)).status_code == 403
    await calendly.advance(hours=2)
    assert (await calendly.http.get("/users/me", headers=head)).json()["message"] == "The access token expired"


async def test_a_denial_comes_back_without_a_code(calendly: SimulatedCalendly) -> None:
    """The user's no is `access_denied`."""
    user = next(iter(calendly.running.world.users))
    back = await decide(calendly, user, "deny")
    assert (back["error"], back.get("code")) == ("access_denied", None)


@pytest.mark.parametrize(
    "changed", [{"code_verifier": VERIFIER + "x"}, {"redirect_uri": BACK + "x"}, {"code": "another"}], ids=str
)
async def test_a_code_is_good_for_its_verifier_and_address_once(
    calendly: SimulatedCalendly, changed: dict[str, str]
) -> None:
    """Anything else is `invalid_grant`; and so is the code itself when it is presented again, or after ten minutes."""
    user = next(iter(calendly.running.world.users))
    form = {"grant_type": "authorization_code", "redirect_uri": BACK, "code_verifier": VERIFIER}
    form["code"] = (await decide(calendly, user))["code"]
    refused = await ask(calendly, **{**form, **changed})
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert (await ask(calendly, **form)).status_code == 200
    assert (await ask(calendly, **form)).json()["error"] == "invalid_grant"
    form["code"] = (await decide(calendly, user))["code"]
    await calendly.advance(minutes=10)
    assert (await ask(calendly, **form)).json()["error"] == "invalid_grant"


async def test_a_refresh_token_works_once(calendly: SimulatedCalendly) -> None:
    """A success revokes it at once and gives the next pair; introspection tells both; the old access token lives on."""
    first = await pair(calendly)
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = (await ask(calendly, **form)).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert (await ask(calendly, **form)).json()["error"] == "invalid_grant"
    active = [(await ask(calendly, "introspect", token=each["refresh_token"])).json() for each in (first, second)]
    assert [each["active"] for each in active] == [False, True]
    head = {"Authorization": f"Bearer {first['access_token']}"}
    assert (await calendly.http.get("/users/me", headers=head)).status_code == 200


async def test_a_revocation_ends_the_pair(calendly: SimulatedCalendly) -> None:
    """Either token revokes both, by the app or by the user; revoking what is unknown is no error."""
    for revoke in ("refresh_token", "access_token", "user"):
        made = await pair(calendly)
        if revoke == "user":
            await calendly.act("oauth", revoke_user=made["owner"])
        else:
            assert (await ask(calendly, "revoke", token=made[revoke])).status_code == 200
        head = {"Authorization": f"Bearer {made['access_token']}"}
        answer = await calendly.http.get("/users/me", headers=head)
        assert (answer.status_code, answer.json()["message"]) == (401, "The access token was revoked")
        form = {"grant_type": "refresh_token", "refresh_token": made["refresh_token"]}
        assert (await ask(calendly, **form)).json()["error"] == "invalid_grant"
    assert (await ask(calendly, "revoke", token="nothing")).status_code == 200


async def test_tokens_have_a_rate_limit_a_user(calendly: SimulatedCalendly) -> None:
    """Eight in a minute, the next is 429 and spends nothing; another user has their own; then it works again."""
    made = await pair(calendly)
    for _ in range(TOKEN_RATE - 1):
        made = (await ask(calendly, grant_type="refresh_token", refresh_token=made["refresh_token"])).json()
    form = {"grant_type": "refresh_token", "refresh_token": made["refresh_token"]}
    assert (await ask(calendly, **form)).status_code == 429
    await pair(calendly, place=1)
    await calendly.advance(minutes=1)
    assert (await ask(calendly, **form)).status_code == 200


async def test_an_answer_is_lost_before_or_after_its_effect(calendly: SimulatedCalendly) -> None:
    """Before: the refresh token still works. After: it is spent. The answers look alike."""
    made = await pair(calendly)
    form = {"grant_type": "refresh_token", "refresh_token": made["refresh_token"]}
    await calendly.act("faults", token_error_rate=1)
    assert (await ask(calendly, **form)).status_code == 502
    assert (await ask(calendly, "introspect", token=made["refresh_token"])).json()["active"]
    await calendly.act("faults", token_error_rate=0, token_lost_answer_rate=1)
    assert (await ask(calendly, **form)).status_code == 502
    assert not (await ask(calendly, "introspect", token=made["refresh_token"])).json()["active"]


async def test_the_app_is_known_by_its_secret(calendly: SimulatedCalendly) -> None:
    """A wrong secret is `invalid_client`, in the header as in the body; both right ways work."""
    app = oauth_app(calendly.running.engine.seed)
    wrong = {"client_id": app.client_id, "client_secret": "wrong"}
    for answer in (
        await calendly.http.post("/oauth/introspect", data={"token": "x"}, auth=httpx.BasicAuth(*wrong.values())),
        await calendly.http.post("/oauth/introspect", data={"token": "x", **wrong}),
    ):
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    form = {"client_id": app.client_id, "client_secret": app.client_secret, "token": "x"}
    head = {"Authorization": ""}
    assert (await calendly.http.post("/oauth/introspect", data=form, headers=head)).json() == {"active": False}


async def test_the_apps_key_signs_what_its_tokens_subscribed(calendly: SimulatedCalendly) -> None:
    """A subscription of the app without a key is signed with the app's, with the new one once that is rotated."""
    made = await pair(calendly)
    head = {"Authorization": f"Bearer {made['access_token']}"}
    async with receiving() as receiver:
        body = {"url": receiver.url, "events": ["invitee.created"], "organization": calendly.running.organization}
        answer = await calendly.http.post(
            "/webhook_subscriptions", json={**body, "scope": "organization"}, headers=head
        )
        assert answer.status_code == 201, answer.text
        keys = []
        for number in (1, 2):
            keys.append((await calendly.http.get("/simulator/oauth")).json()["signing_key"])
            await calendly.act("book", wait_seconds=60)
            await receiver.received(number)
            told = receiver.deliveries[-1]
            at = int(told.headers["calendly-webhook-signature"].partition(",")[0].removeprefix("t="))
            assert told.headers["calendly-webhook-signature"] == signature(keys[-1], told.body, at)
            await calendly.act("oauth", rotate_signing_key=True)
        assert keys[0] != keys[1]
