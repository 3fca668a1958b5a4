"""The Calendly client and the simulated Calendly understand each other: what one asks, the other answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from pydantic import SecretStr

from slotwire.ingest.control.calendly_client import (
    invitee_no_shows,
    invitees,
    organization_memberships,
    organizations,
    routing_form_submissions,
    routing_forms,
    scheduled_events,
    users,
    webhook_subscriptions,
)
from slotwire.ingest.control.calendly_client.pages import PAGE_SIZE
from slotwire.ingest.control.calendly_client.retries import CallRetries
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.control.catalogue import Scope
from slotwire.ingest.control.token_claims import read_claims
from slotwire.ingest.errors import CalendlyError, CalendlyProblem
from slotwire.ingest.foundation.settings import CalendlySettings
from slotwire.ingest.simulator.app import Options
from slotwire.ingest.simulator.model import SimulatedUser
from slotwire.schemas.calendly import InviteePayload
from slotwire.schemas.ids import OrganizationUri
from tests.support.scripted_calendly import connected
from tests.support.simulated_calendly import Receiver, SimulatedCalendly, receiving, simulated_calendly

T = TypeVar("T")
API = "https://api.calendly.com"
ONCE = CallRetries(attempts=1)
REST_ONLY = {"calendar_event"}
REST_ONLY_OF_MEMBER = {"buffered_start_time", "buffered_end_time"}
FIFTY = 50


@dataclass(frozen=True)
class Setup:
    """A simulator with two organizations, and the first one's owner speaking to it."""

    there: SimulatedCalendly
    owner: CalendlyTransport

    @property
    def organization(self) -> OrganizationUri:
        """The owner's organization."""
        return OrganizationUri(self.there.running.organization)

    def member(self, place: int, organization: int = 0) -> SimulatedUser:
        """Return a member: place 0 is the owner, 1 an admin, 3 a plain user."""
        world = self.there.running.world
        return world.members(list(world.organizations)[organization])[place]

    @asynccontextmanager
    async def speaking(
        self, user: SimulatedUser, *scopes: str, retries: CallRetries = ONCE
    ) -> AsyncIterator[CalendlyTransport]:
        """Speak to Calendly with a new token of a user; without scopes it may do everything."""
        made = await self.there.act("tokens", user=user.id, scopes=scopes or ["default"])
        async with connected(
            CalendlySettings(api_url=self.there.running.url), SecretStr(made["token"]), retries=retries
        ) as client:
            yield client


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    """What each test starts from."""
    async with simulated_calendly(Options(organizations=2)) as there:
        settings = CalendlySettings(api_url=there.running.url)
        async with connected(settings, SecretStr(there.running.owner_token), retries=ONCE) as owner:
            yield Setup(there, owner)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver of deliveries."""
    async with receiving() as found:
        yield found


async def all_of(items: AsyncIterator[T]) -> list[T]:
    """Read a list to its end."""
    return [item async for item in items]


async def subscribe(
    client: CalendlyTransport,
    organization: OrganizationUri,
    url: str = "http://127.0.0.1:9/hook",
    *,
    events: tuple[str, ...] = ("invitee.created",),
    scope: Scope = "organization",
    subject: str = "",
) -> webhook_subscriptions.WebhookSubscriptionResource:
    """Subscribe."""
    return await webhook_subscriptions.create(
        client,
        organization=organization,
        url=url,
        events=events,
        signing_key=SecretStr("signing"),
        scope=scope,
        subject=subject,
    )


async def problem_of(asking: Any) -> CalendlyError:
    """Return what Calendly said no with."""
    with pytest.raises(CalendlyError) as caught:
        await asking
    return caught.value


async def test_a_token_leads_to_user_organization_and_role(setup: Setup) -> None:
    """From a token alone come user, organization and role; what the token says of itself agrees."""
    for place, role in ((0, "owner"), (1, "admin")):
        user = setup.member(place)
        async with setup.speaking(user) as client:
            me = await users.me(client)
            found = await organization_memberships.find(client, organization=me.current_organization, user=me.uri)
        assert (me.uri, me.current_organization) == (f"{API}/users/{user.id}", setup.organization)
        assert found is not None
        assert found.role == role
    assert (await organizations.get(setup.owner, setup.organization)).plan == "professional"
    assert len(await all_of(organization_memberships.every(setup.owner, organization=setup.organization))) == 4
    claims = read_claims(SecretStr(setup.there.running.owner_token))
    assert (claims.user_uuid, claims.scopes) == (setup.member(0).id, ("default",))


async def test_each_scope_gets_its_events_and_is_listed_alone(setup: Setup, receiver: Receiver) -> None:
    """A booking reaches the organization's, its host's and the host's group's subscription, and no other's."""
    world = setup.there.running.world
    host, outsider = setup.member(0), setup.member(3)
    group = next(each for each in world.groups.values() if host.id in each.members)
    subjects: tuple[tuple[Scope, str, str], ...] = (
        ("organization", "", "/org"),
        ("user", f"{API}/users/{host.id}", "/host"),
        ("user", f"{API}/users/{outsider.id}", "/outsider"),
        ("group", f"{API}/groups/{group.id}", "/group"),
    )
    for scope, subject, path in subjects:
        url = receiver.url + path
        made = await subscribe(setup.owner, setup.organization, url, scope=scope, subject=subject)
        assert (made.scope, made.subject) == (scope, subject)
        [listed] = await all_of(webhook_subscriptions.every(setup.owner, setup.organization, scope, subject))
        assert listed == made
    for user, paths in ((host, ["/group", "/host", "/org"]), (outsider, ["/org", "/outsider"])):
        offer = next(each for each in world.event_types.values() if each.owner == user.id and each.limit == 1)
        receiver.deliveries.clear()
        await setup.there.act("book", event_type=offer.id)
        assert sorted(each.path for each in receiver.deliveries) == paths


async def test_rest_and_the_webhook_give_the_same_payload(setup: Setup, receiver: Receiver) -> None:
    """Invitee and event read by REST make the payload that was delivered; a submission equals it without changes."""
    await subscribe(
        setup.owner,
        setup.organization,
        receiver.url,
        events=("invitee.created", "invitee.canceled", "routing_form_submission.created"),
    )
    booked = await setup.there.act("book")
    await setup.there.act("cancel", invitee=booked["invitees"][0])
    sent = await setup.there.act("routing-form")
    payloads = {each.parsed["event"]: each.parsed["payload"] for each in receiver.deliveries}
    event = await scheduled_events.get(setup.owner, booked["event"])
    [invitee] = await all_of(invitees.every(setup.owner, event.uri))
    assert invitee == await invitees.get(setup.owner, booked["invitees"][0])
    members = [
        {name: value for name, value in member.items() if name not in REST_ONLY_OF_MEMBER}
        for member in event.raw["event_memberships"]
    ]
    told = {name: value for name, value in event.raw.items() if name not in REST_ONLY}
    whole = {**invitee.raw, "scheduled_event": {**told, "event_memberships": members}}
    assert whole == payloads["invitee.canceled"]
    assert InviteePayload.model_validate(whole).status == "canceled"
    submission = await routing_form_submissions.get(setup.owner, sent["submission"])
    assert submission.raw == payloads["routing_form_submission.created"]


async def test_events_are_found_by_host_time_and_status(setup: Setup) -> None:
    """Every filter of the client narrows the list as its words say, in the order asked for."""
    first = datetime(2026, 12, 1, 10, tzinfo=UTC)
    booked = [
        (await setup.there.act("book", start=(first + timedelta(days=day)).isoformat()))["event"] for day in range(3)
    ]
    await setup.there.act("cancel-event", event=booked[1])

    async def found(**wanted: Any) -> list[str]:
        chosen = scheduled_events.ScheduledEventQuery(organization=setup.organization, **wanted)
        return [item.uri async for item in scheduled_events.every(setup.owner, chosen)]

    assert await found() == booked
    assert await found(latest_first=True) == booked[::-1]
    assert await found(status="active") == [booked[0], booked[2]]
    assert await found(status="canceled") == [booked[1]]
    assert await found(start_from=first + timedelta(microseconds=1), start_to=first + timedelta(days=1)) == [booked[1]]
    events = [setup.there.running.engine.bookings.event(uri.rpartition("/")[2]) for uri in booked]
    hosts = {event.host for event in events if event}
    for host in hosts:
        mine = [event.uri for event in events if event and event.host == host]
        assert await found(user=f"{API}/users/{host}") == mine
    [group] = [
        each for each in setup.there.running.world.groups.values() if f"/{each.organization}" in setup.organization
    ]
    members = [event.uri for event in events if event and event.host in group.members]
    assert await found(group=f"{API}/groups/{group.id}") == members


async def test_lists_longer_than_a_page_are_read_to_the_end(setup: Setup) -> None:
    """One event more than a page holds makes two calls and no event is missing or doubled."""
    for _ in range(PAGE_SIZE + 1):
        await setup.there.act("book", start="2026-12-01T10:00:00Z")
    before = len(setup.there.running.gate.calls.listing(0, 1_000, lambda _: True))
    wanted = scheduled_events.ScheduledEventQuery(organization=setup.organization)
    found = [item.uri async for item in scheduled_events.every(setup.owner, wanted)]
    assert len(set(found)) == len(found) == PAGE_SIZE + 1
    assert len(setup.there.running.gate.calls.listing(0, 1_000, lambda _: True)) == before + 2


async def test_a_no_show_is_marked_and_cleared(setup: Setup) -> None:
    """A mark is set, read, seen on the invitee, taken back, and is then not found."""
    [invitee] = (await setup.there.act("book"))["invitees"]
    mark = await invitee_no_shows.create(setup.owner, invitee)
    assert mark.invitee == invitee
    assert await invitee_no_shows.get(setup.owner, mark.uri) == mark
    seen = (await invitees.get(setup.owner, invitee)).no_show
    assert seen is not None
    assert (seen.uri, seen.created_at) == (mark.uri, mark.created_at)
    assert (await problem_of(invitee_no_shows.create(setup.owner, invitee))).problem is CalendlyProblem.CONFLICT
    for _ in range(2):
        await invitee_no_shows.delete(setup.owner, mark.uri)
    assert (await problem_of(invitee_no_shows.get(setup.owner, mark.uri))).problem is CalendlyProblem.NOT_FOUND
    assert (await invitees.get(setup.owner, invitee)).no_show is None


async def test_submissions_are_found_through_their_forms(setup: Setup) -> None:
    """Forms of the organization lead to their submissions, oldest or newest first."""
    sent = [(await setup.there.act("routing-form"))["submission"] for _ in range(2)]
    [form] = await all_of(routing_forms.every(setup.owner, setup.organization))
    assert await routing_forms.get(setup.owner, form.uri) == form
    found = await all_of(routing_form_submissions.every(setup.owner, form.uri))
    assert [item.uri for item in found] == sent
    newest = await all_of(routing_form_submissions.every(setup.owner, form.uri, latest_first=True))
    assert newest == found[::-1]


@pytest.mark.parametrize(
    ("scopes", "problem", "missing"),
    [
        (("users:read",), CalendlyProblem.SCOPE, ("webhooks:write",)),
        (("webhooks:write",), CalendlyProblem.INVALID, ()),
    ],
)
async def test_missing_scopes_are_reported(
    setup: Setup, scopes: tuple[str, ...], problem: CalendlyProblem, missing: tuple[str, ...]
) -> None:
    """Without `webhooks:write` the error names it; without an event's read scope it is a 400 that hints at scopes."""
    async with setup.speaking(setup.member(0), *scopes) as client:
        error = await problem_of(subscribe(client, setup.organization))
    assert (error.problem, error.required_scopes) == (problem, missing)
    assert "scope" in error.remedy
    assert "scheduled_events:read" in error.message or missing


async def test_refusals_for_plan_role_and_address_are_distinguished(setup: Setup) -> None:
    """A plan that is too small, a role that is too low and an address that is taken are three different problems."""
    routing = ("routing_form_submission.created",)
    await setup.there.act("organizations", organization=setup.organization, plan="free")
    plan = await problem_of(subscribe(setup.owner, setup.organization, events=routing))
    async with setup.speaking(setup.member(3)) as client:
        role = await problem_of(subscribe(client, setup.organization))
    await subscribe(setup.owner, setup.organization)
    taken = await problem_of(subscribe(setup.owner, setup.organization))
    found = [error.problem for error in (plan, role, taken)]
    assert found == [CalendlyProblem.PLAN, CalendlyProblem.PERMISSION, CalendlyProblem.CONFLICT]


@pytest.mark.parametrize(("state", "words"), [("revoked", "was revoked"), ("expired", "expired")])
async def test_a_lost_token_is_noticed_at_once(setup: Setup, state: str, words: str) -> None:
    """The first call after a token was revoked or ended is a credential problem, and is not tried again."""
    user = setup.member(0)
    token = (await setup.there.act("tokens", user=user.id))["token"]
    async with connected(CalendlySettings(api_url=setup.there.running.url), SecretStr(token)) as client:
        await users.me(client)
        await setup.there.act("tokens/state", token=token, state=state)
        error = await problem_of(users.me(client))
    assert (error.problem, error.status) == (CalendlyProblem.CREDENTIAL, 401)
    assert words in error.message
    assert token not in f"{error!r}{error.remedy}"
    assert [call.status for call in setup.there.running.gate.calls.listing(0, 10, lambda _: True)] == [200, 401]


async def test_only_reads_are_repeated_when_calendly_fails(setup: Setup) -> None:
    """With half of the calls answered in HTML all reads succeed; a write whose answer is lost has had its effect."""
    await setup.there.act("faults", rest_error_rate=0.5)
    patient = CallRetries(attempts=12, first_wait_seconds=0.001, max_wait_seconds=0.01)
    async with setup.speaking(setup.member(0), retries=patient) as client:
        for _ in range(10):
            assert (await users.me(client)).current_organization == setup.organization
        await setup.there.act("faults", rest_error_rate=0.0, rest_lost_answer_rate=1.0)
        error = await problem_of(subscribe(client, setup.organization))
        await setup.there.act("faults", rest_lost_answer_rate=0.0)
        found = await all_of(webhook_subscriptions.of_organization(client, setup.organization))
    assert error.problem is CalendlyProblem.UPSTREAM
    assert len(found) == 1


async def test_a_rate_limit_says_when_to_come_back(setup: Setup) -> None:
    """Past the limit the error carries Calendly's own wait; after it calls pass again."""
    await setup.there.act("faults", rate_limit=1)
    await users.me(setup.owner)
    error = await problem_of(users.me(setup.owner))
    assert (error.problem, error.wait) == (CalendlyProblem.LIMITED, 60.0)
    await setup.there.advance(seconds=60)
    assert (await users.me(setup.owner)).current_organization == setup.organization


async def test_fifty_organizations_never_use_each_others_tokens() -> None:
    """Fifty owners at once read and subscribe; each organization is called with its own token only."""
    async with simulated_calendly(Options(organizations=FIFTY)) as there:
        settings = CalendlySettings(api_url=there.running.url)
        owners = [
            token for token in there.running.world.tokens if there.running.world.users[token.user].role == "owner"
        ]

        async def work(number: int) -> None:
            async with connected(settings, SecretStr(owners[number].value), retries=ONCE) as client:
                organization = (await users.me(client)).current_organization
                await organizations.get(client, organization)
                made = await subscribe(client, organization, f"http://127.0.0.1:9/{number}")
                assert [made] == await all_of(webhook_subscriptions.of_organization(client, organization))
                await webhook_subscriptions.delete(client, made.uri)

        async with asyncio.TaskGroup() as tasks:
            for number in range(FIFTY):
                tasks.create_task(work(number))
        calls = there.running.gate.calls
        assert calls.foreign() == ()
        assert len(calls.listing(0, 1_000, lambda _: True)) == 5 * FIFTY
        summary = (await there.http.get("/simulator/calls/summary")).json()
        assert {len(each["tokens"]) for each in summary["organizations"].values()} == {1}
        assert len(summary["organizations"]) == FIFTY

        # The record can fail: one token used for another's organization is seen.
        async with connected(settings, SecretStr(owners[0].value), retries=ONCE) as client:
            other = OrganizationUri(f"{API}/organizations/{list(there.running.world.organizations)[1]}")
            await problem_of(subscribe(client, other))
        assert [call.named for call in calls.foreign()] == [(other.rpartition("/")[2],)]
