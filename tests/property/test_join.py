"""State is a join: whatever order, duplicates and batches Calendly's deliveries come in, the end is the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batch import Batch
from ingest.booking import Booking
from ingest.normalize import Fact, InviteeEvent, InviteeFact
from ingest.verify import Tenant, VerifiedDelivery
from schemas.calendly import InviteePayload, NoShow, ScheduledEvent

ORG = "https://api.calendly.com/organizations/A"
TENANT = Tenant(ORG, "A", 0, None, uuid4())
START = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """Return a moment of the story."""
    return START + timedelta(seconds=seconds)


def invitee(name: str, event: str | None = None) -> str:
    """Name an invitee; those of a group event share the event."""
    return f"https://api.calendly.com/scheduled_events/{event or name}/invitees/{name}"


def fact(kind: InviteeEvent, uri: str, told: float, *, payload: InviteePayload) -> InviteeFact:
    """Make a fact as `normalize` would."""
    moment = at(int(told))
    delivery = VerifiedDelivery(uuid4(), TENANT, b"{}", "", moment, moment, None)
    return InviteeFact(delivery, kind, payload.model_copy(update={"uri": uri}), moment)


def payload_of(
    *,
    status: str = "active",
    updated: float,
    old: str | None = None,
    new: str | None = None,
    mark: NoShow | None = None,
) -> InviteePayload:
    """Make a payload; the fields that change are arguments."""
    return InviteePayload(
        uri="set later",
        status=status,
        created_at=at(0),
        updated_at=at(updated),
        old_invitee=old,
        new_invitee=new,
        no_show=mark,
        rescheduled=new is not None,
        scheduled_event=ScheduledEvent(uri="https://api.calendly.com/scheduled_events/E", start_time=at(9000)),
    )


def chain(names: list[str], *, group: str | None = None, cancel_last: bool = True) -> list[InviteeFact]:
    """Tell a booking that moves from invitee to invitee and, if so, is cancelled at the end."""
    uris = [invitee(name, group and f"{group}{position}") for position, name in enumerate(names)]
    facts = []
    for position, uri in enumerate(uris):
        old = uris[position - 1] if position else None
        new = uris[position + 1] if position + 1 < len(uris) else None
        created = payload_of(updated=position * 10, old=old)
        facts.append(fact(InviteeEvent.CREATED, uri, position * 10, payload=created))
        if new or cancel_last:
            canceled = payload_of(status="canceled", updated=position * 10 + 10, old=old, new=new)
            facts.append(fact(InviteeEvent.CANCELED, uri, position * 10 + 10, payload=canceled))
    return facts


def no_shows(name: str) -> list[InviteeFact]:
    """Tell a booking whose no-show is set, cleared, set and cleared again."""
    uri = invitee(name)
    facts = [fact(InviteeEvent.CREATED, uri, 0, payload=payload_of(updated=0))]
    for turn, told in enumerate((20.0, 40.0)):
        mark = NoShow(uri=f"https://api.calendly.com/invitee_no_shows/{name}{turn}", created_at=at(told + 0.5))
        facts.append(fact(InviteeEvent.NO_SHOW_CREATED, uri, told, payload=payload_of(updated=0, mark=mark)))
        facts.append(fact(InviteeEvent.NO_SHOW_DELETED, uri, told + 10, payload=payload_of(updated=0)))
    return facts


STORIES: dict[str, list[InviteeFact]] = {
    "cancelled": chain(["a"]),
    "chain of three": chain(["a", "b", "c"]),
    "chain of three, kept": chain(["a", "b", "c"], cancel_last=False),
    "two of a group that moves": [*chain(["a", "b"], group="g"), *chain(["x", "y"], group="g")],
    "no-shows": no_shows("a"),
    "no-shows and a cancel": [*no_shows("a"), chain(["a"])[1]],
}


def tell(batches: list[list[InviteeFact]]) -> tuple[dict[str, Booking], list[tuple[UUID, str, str]]]:
    """Fold batches one after the other, as the log does; return the rows and the events written."""
    rows: dict[str, Booking] = {}
    written: dict[UUID, tuple[UUID, str, str]] = {}
    for facts in batches:
        batch = Batch(list[Fact](facts), rows)
        for event in batch.events:
            written.setdefault(event.id, (event.id, event.data.type, event.subject))
        rows = batch.merged()
    return rows, list(written.values())


def comparable(rows: dict[str, Booking]) -> dict[str, Booking]:
    """Leave out what may differ between orders: the key, and how many steps it took."""
    return {uri: replace(row, chain_key="", revision=0) for uri, row in rows.items()}


def _orders(draw: st.DrawFn, story: str) -> list[list[InviteeFact]]:
    facts = STORIES[story]
    doubled = facts + draw(st.lists(st.sampled_from(facts), max_size=4))
    shuffled = draw(st.permutations(doubled))
    cuts = sorted(draw(st.sets(st.integers(1, len(shuffled)), max_size=4)))
    edges = [0, *cuts, len(shuffled)]
    return [list(shuffled[a:b]) for a, b in pairwise(edges) if a < b]


def check(data: st.DataObject, story: str) -> None:
    """One order, with duplicates and in batches, ends as the natural one does."""
    expected_rows, expected_events = tell([[each] for each in STORIES[story]])
    batches = data.draw(st.composite(_orders)(story))
    rows, events = tell(batches)
    assert comparable(rows) == comparable(expected_rows)
    assert {identity for identity, _, _ in events} == {identity for identity, _, _ in expected_events}
    first: dict[str, str] = {}
    for _, kind, subject in events:
        first.setdefault(subject, kind)
    assert set(first.values()) == {"com.calendly.invitee.created.v1"}


@pytest.mark.parametrize("story", STORIES)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_every_order_ends_alike(story: str, data: st.DataObject) -> None:
    """All orders with duplicates give one state, one set of event ids, and stories that start with created."""
    check(data, story)
    assert STORIES[story]


@pytest.mark.soak
@pytest.mark.parametrize("story", STORIES)
@settings(max_examples=10_000, deadline=None)
@given(data=st.data())
def test_every_order_ends_alike_in_the_long_form(story: str, data: st.DataObject) -> None:
    """The same over ten thousand orders a story."""
    check(data, story)
    assert STORIES[story]


@pytest.mark.parametrize(
    ("story", "expected"), [("chain of three", 2), ("two of a group that moves", 2), ("cancelled", 0)]
)
def test_a_reschedule_is_told_once(story: str, expected: int) -> None:
    """A chain of three moves twice; each invitee of a group moves for itself; a plain cancel moves nobody."""
    _, events = tell([STORIES[story]])
    assert sum(kind == "io.slotwire.invitee.rescheduled.v1" for _, kind, _ in events) == expected


def test_a_chain_in_order_keeps_one_key() -> None:
    """Told in order, create, reschedule and cancel of a chain share one key and one root."""
    rows, _ = tell([[each] for each in STORIES["chain of three"]])
    assert len({row.chain_key for row in rows.values()}) == 1
    assert {row.chain_root for row in rows.values()} == {invitee("a")}
