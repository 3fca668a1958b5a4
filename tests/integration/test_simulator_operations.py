"""The simulated Calendly answers every operation, as somebody who uses an account does: by the typed calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from pydantic import SecretStr

from slotwire.ingest.control.calendly_client.api import CalendlyApi
from slotwire.ingest.control.calendly_client.api.contacts import ContactEmails
from slotwire.ingest.control.calendly_client.api.invitees import InviteeInvitee
from slotwire.ingest.control.calendly_client.retries import CallRetries
from slotwire.ingest.errors import CalendlyError, CalendlyProblem, PlanMissing
from slotwire.ingest.foundation.operation_table import operation_of, operations
from slotwire.ingest.foundation.settings import CalendlySettings
from slotwire.ingest.simulator.app import Options
from slotwire.ingest.simulator.drafts import BookingDetails
from slotwire.ingest.simulator.engine import OperationResult
from tests.support.scripted_calendly import connected
from tests.support.simulated_calendly import AMPLE, Receiver, SimulatedCalendly, receiving, simulated_calendly

T = TypeVar("T")
ONCE = CallRetries(attempts=1)
ADA: Sequence[ContactEmails] = [{"email": "ada@example.com", "is_primary": True}]


@pytest.fixture
async def there() -> AsyncIterator[SimulatedCalendly]:
    """A simulator with one organization."""
    async with simulated_calendly(Options(rate_limit=AMPLE)) as found:
        yield found


@pytest.fixture
async def api(there: SimulatedCalendly) -> AsyncIterator[CalendlyApi]:
    """Its owner's calls."""
    settings = CalendlySettings(api_url=there.running.url)
    async with connected(settings, SecretStr(there.running.owner_token), retries=ONCE) as owner:
        yield CalendlyApi(owner)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver of deliveries."""
    async with receiving() as found:
        yield found


async def all_of(items: AsyncIterator[T]) -> list[T]:
    """Read a list to its end."""
    return [item async for item in items]


def known(uri: str | None) -> str:
    """Return a URI that must be there."""
    assert uri is not None
    return uri


def known_time(at: datetime | None) -> datetime:
    """Return a time that must be there."""
    assert at is not None
    return at


async def refused(problem: CalendlyProblem, call: object) -> None:
    """Make a call that Calendly refuses."""
    with pytest.raises(CalendlyError) as caught:
        await call  # type: ignore[misc]  # any of the typed calls
    assert caught.value.problem is problem


async def test_contacts_lists_and_notes_are_kept(
    there: SimulatedCalendly, api: CalendlyApi, receiver: Receiver
) -> None:
    """Contacts are made, found, changed, listed and told to subscriptions; what is not allowed is refused."""
    await there.subscribe(receiver.url, events=["contact.created", "contact.updated", "contact.deleted"])
    seats = await api.contact_fields.create(label="Seats", field_type="number")
    await refused(CalendlyProblem.CONFLICT, api.contact_fields.create(label="Seats", field_type="text"))
    field = known(seats.uri)
    assert (await api.contact_fields.get(field)).label == "Seats"
    assert [each.label for each in await api.contact_fields.list()] == ["Seats"]
    number = field.rpartition("/")[2]
    ada = await api.contacts.create(
        name="Ada Lovelace", emails=ADA, city="London", custom_fields=[{"uuid": number, "value": 3}]
    )
    bob = await api.contacts.create(name="Bob Kahn", emails=[{"email": "bob@example.com", "is_primary": True}])
    await refused(CalendlyProblem.CONFLICT, api.contacts.create(name="Again", emails=ADA))
    await refused(CalendlyProblem.INVALID, api.contacts.create(name="Nobody", emails=[]))
    await refused(
        CalendlyProblem.INVALID, api.contacts.update(known(ada.uri), custom_fields=[{"uuid": "x", "value": 1}])
    )
    changed = await api.contacts.update(known(ada.uri), job_title="Countess", phone_numbers=[{"phone_number": "+1555"}])
    assert (changed.job_title, changed.city, changed.custom_fields) == ("Countess", "London", ada.custom_fields)
    assert [each.name for each in await all_of(api.contacts.list(name="ada"))] == ["Ada Lovelace"]
    assert [each.name for each in await all_of(api.contacts.list(email="bob@example.com,x@example.com"))] == [
        "Bob Kahn"
    ]
    assert [each.name for each in await all_of(api.contacts.list(phone_number="+1555"))] == ["Ada Lovelace"]
    assert (await api.contacts.get(known(ada.uri), exclude="custom_fields")).custom_fields is None

    customers = await api.contact_lists.create(name="Customers", contacts=[known(ada.uri), "nobody"])
    assert customers.membership_result == {"added": 1, "invalid": 1}
    await refused(CalendlyProblem.CONFLICT, api.contact_lists.create(name=" customers "))
    await api.contact_lists.add(known(customers.uri), contacts=[known(ada.uri), known(bob.uri)])
    renamed = await api.contact_lists.update(known(customers.uri), name="Clients")
    assert (renamed.name, renamed.contact_count) == ("Clients", 2)
    assert len(await all_of(api.contacts.list(contact_list=customers.uri))) == 2
    await api.contact_lists.remove(known(customers.uri), contacts=[known(ada.uri)])
    assert (await api.contact_lists.get(known(customers.uri))).contact_count == 1
    assert [each.name for each in await api.contact_lists.list()] == ["Clients"]

    first, second = [
        await api.notes.create(contact=known(ada.uri), title=title, remind_at=datetime(2026, 12, 1, tzinfo=UTC))
        for title in ("First", "Second")
    ]
    assert known(first.uri) != second.uri
    assert [each.title for each in await all_of(api.notes.list(contact=known(ada.uri)))] == ["Second", "First"]
    assert (await api.notes.get(known(second.uri))).title == "Second"
    await api.contacts.delete(known(bob.uri))
    await refused(CalendlyProblem.NOT_FOUND, api.contacts.get(known(bob.uri)))
    assert (await api.contact_lists.get(known(customers.uri))).contact_count == 0
    await there.settled()
    told = [(each.event, each.parsed["payload"]["uri"]) for each in receiver.deliveries]
    assert sorted(told) == sorted(
        [
            ("contact.created", ada.uri),
            ("contact.created", bob.uri),
            ("contact.updated", ada.uri),
            ("contact.deleted", bob.uri),
        ]
    )


async def times_are_asked(there: SimulatedCalendly, api: CalendlyApi, user: str, chosen: str) -> OperationResult:
    """Ask when an event type and its host are free, book the first such time, and change limits; return the booking."""
    running, org = there.running, there.running.organization
    monday = datetime.fromtimestamp(running.engine.clock.now().timestamp(), UTC) + timedelta(days=1)
    span = {"start_time": monday, "end_time": monday + timedelta(days=6)}
    free = await api.event_types.available_times(event_type=chosen, **span)
    start = free[0].start_time
    assert start is not None
    booked = running.engine.book(BookingDetails(event_type=chosen.rpartition("/")[2], start=start))
    left = await api.event_types.available_times(event_type=chosen, **span)
    assert [each.start_time for each in left] == [each.start_time for each in free[1:]], "what is booked is not free"
    assert [each.start_time for each in await api.user_busy_times.list(user=user, **span)] == [start]
    await refused(
        CalendlyProblem.INVALID,
        api.event_types.available_times(event_type=chosen, start_time=monday, end_time=monday + timedelta(days=32)),
    )
    [schedule] = await api.user_availability_schedules.list(user=user)
    assert (await api.user_availability_schedules.get(known(schedule.uri))).timezone == "Etc/UTC"
    rule = {"timezone": "Europe/London", "rules": []}
    await api.event_type_availability.update(event_type=chosen, availability_rule=rule)  # type: ignore[arg-type]  # no rules
    [of_it] = await api.event_type_availability.list(event_type=chosen)
    assert of_it.availability_rule == rule
    assert (await api.user_meeting_limits.update(user=user, daily_limit=8)).daily_limit == 8
    assert [each.daily_limit for each in await api.user_meeting_limits.list(user=user)] == [8]
    await api.user_meeting_limits.update(user=user, daily_limit=1)
    allowed = await api.event_types.available_times(event_type=chosen, **span)
    days = {each.start_time.date() for each in left if each.start_time is not None}
    assert {each.start_time.date() for each in allowed if each.start_time is not None} == days - {start.date()}
    person: InviteeInvitee = {"name": "Bob", "email": "bob@example.com", "timezone": "Europe/London"}
    full = api.invitees.create(event_type=chosen, start_time=known_time(left[0].start_time), invitee=person)
    await refused(CalendlyProblem.CONFLICT, full)
    await api.user_meeting_limits.update(user=user, daily_limit=None)
    other = running.world.members(org.rpartition("/")[2])[1].id
    await refused(CalendlyProblem.PERMISSION, api.user_meeting_limits.list(user=other))
    assert {each.kind for each in await api.locations.list(user=user)} > {"zoom_conference"}
    return booked


async def event_types_are_made(api: CalendlyApi, org: str, user: str, chosen: str) -> None:
    """Make event types, change one, and make links."""
    made = await api.event_types.create(owner=user, name="Demo", duration=45)
    assert (await api.event_types.update(known(made.uri), name="Tour")).name == "Tour"
    assert "Tour" in [each.name async for each in api.event_types.list(organization=org, user=user)]
    await api.event_types.create_one_off(name="Once", host=user, duration=15, date_setting={"type": "days_in_future"})
    [host] = await all_of(api.event_types.memberships(event_type=chosen))
    assert host.event_type == chosen
    assert (await api.scheduling_links.create(max_event_count=1, owner=chosen, owner_type="EventType")).booking_url
    assert (await api.shares.create(event_type=chosen)).scheduling_links


async def people_come_and_go(api: CalendlyApi, org: str) -> None:
    """Look at members, teams and groups, remove a member, and invite somebody."""
    members = await all_of(api.organization_memberships.list(organization=org))
    last = known(members[-1].uri)
    assert (await api.organization_memberships.get(last)).role == "user"
    await api.organization_memberships.delete(last)
    assert len(await all_of(api.organization_memberships.list(organization=org))) == len(members) - 1
    invited = await api.organization_invitations.create(org, email="new@example.com")
    ident = known(invited.uri)
    assert (await api.organization_invitations.get(org, ident)).status == "pending"
    await api.organization_invitations.revoke(org, ident)
    assert await all_of(api.organization_invitations.list(org)) == []
    [team] = await all_of(api.teams.list())
    assert (await api.teams.get(known(team.uri))).name == team.name
    [group] = await all_of(api.groups.list(organization=org))
    assert (await api.groups.get(known(group.uri))).name == group.name
    places = await all_of(api.group_relationships.list(group=group.uri))
    assert (await api.group_relationships.get(known(places[0].uri))).role == "member"


async def plans_gate(there: SimulatedCalendly, api: CalendlyApi, org: str) -> None:
    """Try what needs another plan, buy it, and try again; subscribe and end that."""
    for call in (
        api.data_compliance.delete_invitees(emails=["ada@example.com"]),
        api.data_compliance.delete_events(start_time="2025-01-01T00:00:00Z", end_time="2025-01-02T00:00:00Z"),
    ):
        with pytest.raises(PlanMissing) as gate:
            await call
        assert gate.value.plan == "enterprise"
    await there.act("organizations", organization=org, plan="enterprise")
    await api.data_compliance.delete_invitees(emails=["ada@example.com"])
    await api.data_compliance.delete_events(start_time="2025-01-01T00:00:00Z", end_time="2025-01-02T00:00:00Z")
    assert await all_of(api.activity_log.list(organization=org)) == []
    assert await all_of(api.outgoing_communications.list(organization=org)) == []
    sample = await api.webhook_subscriptions.sample(event="invitee.created", organization=org, scope="organization")
    assert sample.event == "invitee.created"
    hook = await api.webhook_subscriptions.create(
        url="http://127.0.0.1:9/hook", events=["invitee.created"], organization=org, scope="organization"
    )
    assert (await api.webhook_subscriptions.get(known(hook.uri))).state == "active"
    assert len(await all_of(api.webhook_subscriptions.list(organization=org, scope="organization"))) == 1
    await api.webhook_subscriptions.delete(known(hook.uri))


async def meetings_end(there: SimulatedCalendly, api: CalendlyApi, chosen: str, booked: OperationResult) -> None:
    """Look at a booking, mark its invitee, and read what was said; cancel another; read a form."""
    running, org = there.running, there.running.organization
    assert booked.event is not None
    event, [invitee] = booked.event.uri, booked.invitees
    assert [each.uri for each in await all_of(api.scheduled_events.list(organization=org))] == [event]
    assert (await api.scheduled_events.get(event)).status == "active"
    assert [each.uri for each in await all_of(api.invitees.list(event))] == [invitee.uri]
    assert (await api.invitees.get(event, invitee.id)).status == "active"
    mark = await api.invitee_no_shows.create(invitee=invitee.uri)
    assert (await api.invitee_no_shows.get(known(mark.uri))).invitee == invitee.uri
    await api.invitee_no_shows.delete(known(mark.uri))
    await there.advance(days=9)
    [recap] = await all_of(api.meeting_recaps.list())
    ident = known(recap.uri)
    assert (await api.meeting_recaps.update(ident, summary_md="Short.", discussion_md=None)).summary_md == "Short."
    assert (await api.meeting_recaps.get(ident)).event == event
    assert "Hello" in await api.meeting_recaps.transcript(ident)
    await api.meeting_recaps.delete(ident)
    assert await all_of(api.meeting_recaps.list()) == []
    person: InviteeInvitee = {"name": "Ada Lovelace", "email": "ada@example.com", "timezone": "Europe/London"}
    start = running.engine.clock.now().replace(microsecond=0) + timedelta(days=3)
    later = await api.invitees.create(event_type=chosen, start_time=start, invitee=person)
    assert (later.scheduling_method, later.name) == ("api", "Ada Lovelace")
    await refused(CalendlyProblem.CONFLICT, api.invitees.create(event_type=chosen, start_time=start, invitee=person))
    assert (await api.scheduled_events.cancel(known(later.event), reason="moved")).reason == "moved"
    running.engine.submit_form(None, None)
    [form] = await all_of(api.routing_forms.list(organization=org))
    assert (await api.routing_forms.get(known(form.uri))).name == form.name
    [submitted] = await all_of(api.routing_form_submissions.list(form=known(form.uri)))
    assert (await api.routing_form_submissions.get(known(submitted.uri))).uri == submitted.uri


async def test_every_other_operation_is_answered(there: SimulatedCalendly, api: CalendlyApi) -> None:
    """What an account has besides: times, limits, people, event types, links, recaps; plans gate as documented."""
    running, org = there.running, there.running.organization
    user = known((await api.users.me()).uri)
    assert (await api.users.get(user)).uri == user
    assert (await api.organizations.get(org)).stage == "paid"
    offered = [each async for each in api.event_types.list(organization=org, user=user)]
    chosen = known(next(each.uri for each in offered if each.duration == 30))
    assert (await api.event_types.get(chosen)).duration == 30
    booked = await times_are_asked(there, api, user, chosen)
    await event_types_are_made(api, org, user, chosen)
    await people_come_and_go(api, org)
    await plans_gate(there, api, org)
    await meetings_end(there, api, chosen, booked)
    called = running.gate.calls.listing(0, 10_000, lambda _: True)
    names = {found.name for each in called if (found := operation_of(each.method, each.path)) is not None}
    kept_by_contacts = {
        each.name for each in operations().values() if each.scope in {"contacts:read", "contacts:write"}
    }
    assert set(operations()) - names - kept_by_contacts == set(), "each operation was called"
