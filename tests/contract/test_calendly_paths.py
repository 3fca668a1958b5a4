"""A call to Calendly carries a token: whatever a URI holds, it leads to the resource it names, or nowhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from slotwire.ingest.control.calendly_client import (
    invitee_no_shows,
    invitees,
    organizations,
    routing_form_submissions,
    routing_forms,
    scheduled_events,
    webhook_subscriptions,
)
from slotwire.ingest.control.calendly_client.invitees import InviteeResource
from slotwire.ingest.control.calendly_client.resources import MAX_URI, ResourceAnswer, path_to
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.errors import CalendlyError, CalendlyProblem
from slotwire.schemas.ids import OrganizationUri
from tests.support.scripted_calendly import ScriptedAnswer, scripted_calendly

API = "https://api.calendly.com"
EVENT_URI = f"{API}/scheduled_events/E"
READ_BY_URI: dict[str, tuple[str, Callable[[CalendlyTransport, str], Awaitable[object]]]] = {
    "subscription": (f"{API}/webhook_subscriptions/", webhook_subscriptions.get),
    "ended subscription": (f"{API}/webhook_subscriptions/", webhook_subscriptions.delete),
    "organization": (f"{API}/organizations/", lambda c, uri: organizations.get(c, OrganizationUri(uri))),
    "meeting": (f"{API}/scheduled_events/", scheduled_events.get),
    "invitee": (f"{EVENT_URI}/invitees/", invitees.get),
    "invitee of a meeting": (f"{API}/scheduled_events/", lambda c, uri: invitees.get(c, f"{uri}/invitees/I")),
    "list of invitees": (f"{API}/scheduled_events/", lambda c, uri: anext(invitees.every(c, uri))),
    "mark": (f"{API}/invitee_no_shows/", invitee_no_shows.get),
    "cleared mark": (f"{API}/invitee_no_shows/", invitee_no_shows.delete),
    "form": (f"{API}/routing_forms/", routing_forms.get),
    "submission": (f"{API}/routing_form_submissions/", routing_form_submissions.get),
}
"""Every call whose path is made of a URI, with how such a URI begins."""
STRANGE_IDS = [
    *("", ".", "..", "../..", "A/..", "%2e%2e", "%2E", "..%2f..", "A%2fB", "A\\B", "..\\..", "A?b=c", "A#b", "A;b"),
    *("A/", "/A", "A//B", "A/B", "A B", "A\n", "A\r\nHost: x", "A\x00", "A\x7f", "A@b", "\u00c4", "A\u2028"),
]
STRANGE_ORIGINS = [
    *("https://x", "https://api.calendly.com.x", "https://api.calendly.com@example.com", f"https://x@{API[8:]}"),
    *("https://api.calendly.com:443", "http://api.calendly.com", "//api.calendly.com", "https:/api.calendly.com"),
    *("https://api.calendly.com/..", "https://api.calendly.com/", "https:\\\\api.calendly.com", ""),
    *("https://API.calendly.com", " https://api.calendly.com", "file://"),
]


@pytest.mark.parametrize("name", READ_BY_URI)
async def test_a_strange_uri_is_not_asked_for(name: str) -> None:
    """Dots, escapes, empty segments, controls, other hosts: each is refused before a call, and so with the token."""
    begins, ask = READ_BY_URI[name]
    strange = [begins + ident for ident in STRANGE_IDS]
    strange += [f"{origin}{begins.removeprefix(API)}A" for origin in STRANGE_ORIGINS]
    strange += ["A", f"{API}/users/A", f"{API}/A", API, "", f"{begins}{'A' * MAX_URI}"]
    async with scripted_calendly(ScriptedAnswer(200, {})) as (server, client):
        for uri in strange:
            with pytest.raises(CalendlyError, match="not a URI of Calendly's") as caught:
                await ask(client, uri)
            assert caught.value.problem is CalendlyProblem.UNEXPECTED
            assert (uri in caught.value.message) == (uri == "")
    assert server.seen == []


@pytest.mark.parametrize("ident", ["A", "a-b_C9", "69245efd-7e93-4030-b9a8-de8188d679d6"])
async def test_an_identifier_of_calendlys_is_asked_for(ident: str) -> None:
    """Letters, digits, hyphens and underscores are all that Calendly's identifiers have."""
    async with scripted_calendly(ScriptedAnswer(204)) as (server, client):
        await webhook_subscriptions.delete(client, f"{API}/webhook_subscriptions/{ident}")
    assert server.seen[0].raw_path == f"/webhook_subscriptions/{ident}"


def test_the_longest_uri_and_one_past_it() -> None:
    """A URI of MAX_URI characters has a path; one character more has none."""
    begins = f"{API}/users/"
    longest = begins + "A" * (MAX_URI - len(begins))
    assert path_to("users", longest) == longest.removeprefix(API)
    with pytest.raises(CalendlyError):
        path_to("users", longest + "A")


@pytest.mark.parametrize(
    "path", ["", "/", "/..", "/users/..", "//x/users", "/users/", "/users?a=b", "/%2e", "https://x/y"]
)
async def test_the_transport_asks_for_plain_paths_only(path: str) -> None:
    """Whoever makes a path another way than `path_to` is stopped before the token is sent."""
    async with scripted_calendly(ScriptedAnswer(200, {})) as (server, client):
        with pytest.raises(ValueError, match="not a path"):
            await client.get(path, ResourceAnswer[InviteeResource], doing="trying")
    assert server.seen == []
