"""State is a join: whatever order, duplicates and batches Calendly's deliveries come in, the end is the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotwire.ingest.log.batch import Batch
from slotwire.ingest.log.booking import Booking, new_booking, updated
from slotwire.ingest.log.join import MAX_LINKS, MAX_TOGGLES
from slotwire.ingest.log.normalize import Fact, InviteeFact
from slotwire.ingest.log.outcome import DeliveryOutcome
from slotwire.schemas.codec import format_time
from slotwire.schemas.ids import event_id
from tests.support.booking_histories import (
    CONTRADICTIONS,
    HISTORIES,
    ORG,
    START,
    chain,
    cleared,
    created,
    invitee,
    marked,
)
from tests.support.log_model import Model, Written

CLEARED = "invitee_no_show.deleted"
ALL = {**HISTORIES, **CONTRADICTIONS}


def comparable(rows: dict[str, Booking], *, consistent: bool = True) -> dict[str, Booking]:
    """Leave out what may differ between orders: the key, how many steps it took, and who told a clear first.

    Where payloads contradict each other, neither may the root be the same one, nor what waits.
    """
    kept = {}
    for uri, row in rows.items():
        clears = tuple(replace(clear, delivery=UUID(int=0), position=0, alone=False) for clear in row.clears)
        kept[uri] = row._replace(chain_key="", revision=0, clears=clears, waits_since=row.waits_since and START)
        if not consistent:
            kept[uri] = kept[uri]._replace(chain_root="", waits_since=None)
    return kept


def expected_events(natural: Model, reached: Model) -> set[UUID]:
    """Say which events must be there: those of the natural order, but for clears published alone.

    Such a clear has its own event, and a mark whose first clear it is has none.
    """
    identities = set(natural.events)
    for uri, row in reached.rows.items():
        identities |= {event_id(ORG, CLEARED, uri, format_time(clear.at)) for clear in row.clears if clear.alone}
        for mark in row.marks:
            clear = row.clear_of(mark)
            if clear is not None and clear.alone:
                identities -= {event_id(ORG, CLEARED, uri, mark.uri)}
    return identities


def check_end(reached: Model, story: str) -> None:
    """Compare where an order ended with where the natural one ends, and its events with themselves."""
    natural = Model()
    for each in ALL[story]:
        natural.tell([each])
    for model in (natural, reached):
        model.publish_overdue(ALL[story])
    consistent = story in HISTORIES
    assert comparable(reached.rows, consistent=consistent) == comparable(natural.rows, consistent=consistent)
    assert set(reached.events) == expected_events(natural, reached)
    for row in reached.rows.values():
        assert {reached.rows[uri].chain_root for uri in row.new_invitees} <= {row.chain_root}
    by_subject: dict[str, list[Written]] = {}
    for event in reached.events.values():
        by_subject.setdefault(event.subject, []).append(event)
    for uri, events in by_subject.items():
        row = reached.rows[uri]
        assert events[0].type == "com.calendly.invitee.created.v1"
        assert (events[-1].state["state"], events[-1].state["no_show"]) == (row.state, row.no_show)
        assert all(one.state["revision"] < other.state["revision"] for one, other in pairwise(events))


def cut(data: st.DataObject, facts: list[InviteeFact]) -> Iterator[list[InviteeFact]]:
    """Shuffle facts with a few duplicates, and cut them into batches."""
    doubled = facts + data.draw(st.lists(st.sampled_from(facts), max_size=4))
    shuffled = data.draw(st.permutations(doubled))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(shuffled)), max_size=4)))
    return (shuffled[a:b] for a, b in pairwise([0, *cuts, len(shuffled)]) if a < b)


def check_order(data: st.DataObject, story: str) -> None:
    """One order, with duplicates, in batches, and with clears published early, ends as the natural one does."""
    model = Model()
    for facts in cut(data, ALL[story]):
        model.tell(facts)
        if data.draw(st.booleans()):
            model.publish_overdue(ALL[story])
    check_end(model, story)


@pytest.mark.parametrize("story", ALL)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_order_gives_the_same_state(story: str, data: st.DataObject) -> None:
    """All orders with duplicates give one state, one set of event ids, and stories that start with created."""
    check_order(data, story)
    assert ALL[story]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_key_changes_at_most_once_along_a_chain_of_three(data: st.DataObject) -> None:
    """Whatever the order, three bookings of one line have at most two keys, side by side; each keeps its own."""
    model = Model()
    for facts in cut(data, ALL["chain of three"]):
        model.tell(facts)
    keys = [model.rows[invitee(name)].chain_key for name in "abc"]
    assert sum(one != other for one, other in pairwise(keys)) <= 1


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None)
@given(data=st.data(), story=st.sampled_from(list(ALL)))
def test_every_order_gives_the_same_state_soak(data: st.DataObject, story: str) -> None:
    """The same over twenty thousand orders."""
    check_order(data, story)
    assert ALL[story]


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        ("chain of three", 2),
        ("chain of five", 4),
        ("two of a group that moves", 2),
        ("three of a group that moves twice", 5),
        ("cancelled", 0),
        ("itself", 0),
        ("two newer ones", 2),
        ("a circle", 3),
    ],
)
def test_a_reschedule_makes_one_event(story: str, expected: int) -> None:
    """Each move of a chain is told, and each invitee's of a group; of contradictions each that both ends bear out."""
    model = Model()
    model.tell(ALL[story])
    assert sum(event.type == "io.slotwire.invitee.rescheduled.v1" for event in model.events.values()) == expected


def test_a_chain_in_order_keeps_one_key() -> None:
    """Told in order, create, reschedule and cancel of a chain share one key and one root."""
    model = Model()
    for each in HISTORIES["chain of three"]:
        model.tell([each])
    assert len({row.chain_key for row in model.rows.values()}) == 1
    assert {row.chain_root for row in model.rows.values()} == {invitee("a")}


def test_a_circular_chain_within_one_batch_ends() -> None:
    """Roots found in one batch that would follow each other in a circle do not: the batch is written."""
    model = Model()
    model.tell(chain(["s", "t", "p"]))
    model.tell([created("s", 0, old="r"), created("r", 0, old="p")])
    assert len({row.chain_root for row in model.rows.values()}) == 1


def test_an_unmatched_clear_is_published_once_and_its_late_mark_as_cleared() -> None:
    """The clear has its second's id and no mark; the mark that comes late is published as cleared, nothing else."""
    model, facts = Model(), [cleared("a", 30), marked("a", 20)]
    model.tell(facts[:1])
    before = model.rows[invitee("a")]
    model.publish_overdue(facts)
    model.publish_overdue(facts)
    model.tell(facts[1:])
    told = [(event.type.split(".", 2)[2], event.state["no_show"]) for event in model.events.values()]
    assert told == [
        ("invitee.created.v1", False),
        ("invitee_no_show.deleted.v1", False),
        ("invitee_no_show.created.v1", False),
    ]
    assert (before.waits_since, model.rows[invitee("a")].waits_since) == (facts[0].delivery.received_at, None)
    [again] = model.tell([facts[0]]).results
    assert again.outcome is DeliveryOutcome.DUPLICATE


def test_two_marks_with_one_unmatched_clear_are_both_cleared_in_the_end() -> None:
    """The second mark's clear is published before any mark; the first mark's clear comes last and clears the first."""
    model, facts = Model(), [cleared("a", 50), marked("a", 20), marked("a", 40), cleared("a", 30)]
    model.tell(facts[:1])
    model.publish_overdue(facts)
    model.tell(facts[1:3])
    assert sum("deleted" in event.type for event in model.events.values()) == 1
    model.tell(facts[3:])
    first = model.rows[invitee("a")].marks[0]
    assert event_id(ORG, CLEARED, invitee("a"), first.uri) in model.events
    assert sum("deleted" in event.type for event in model.events.values()) == 2


def test_a_mark_published_as_set_is_later_published_as_cleared() -> None:
    """A copy with an earlier time binds a published mark to an unmatched clear: its readers see it cleared."""
    model = Model()
    facts = [cleared("a", 22), marked("a", 20, number=1, time=25), marked("a", 20, number=1, time=20)]
    model.tell(facts[:2])
    model.publish_overdue(facts)
    assert model.rows[invitee("a")].no_show
    model.tell(facts[2:])
    assert not model.rows[invitee("a")].no_show
    assert [event.state["no_show"] for event in model.events.values()] == [False, True, True, False]


def test_one_clear_within_the_second_of_two_marks_clears_both() -> None:
    """The limit as the documentation has it: set, cleared and set within one second counts as cleared, until marked."""
    model = Model()
    model.tell([marked("a", 20, number=1, time=20.1), cleared("a", 20), marked("a", 20, number=2, time=20.7)])
    assert not model.rows[invitee("a")].no_show
    model.tell([marked("a", 40)])
    assert model.rows[invitee("a")].no_show


def test_a_clear_with_a_later_time_clears_only_marks_in_between() -> None:
    """The documented limit: a clear that is sent again with a later time clears a mark that was set before it."""
    model = Model()
    model.tell([marked("a", 20), cleared("a", 30)])
    before = len(model.events)
    model.tell([cleared("a", 35)])
    assert len(model.events) == before
    model.tell([marked("a", 32)])
    assert not model.rows[invitee("a")].no_show


def test_an_incomplete_reschedule_waits_at_the_newer_invitee() -> None:
    """Either half alone waits at the newer invitee's row from its delivery on; both together do not wait."""
    _, moved, arrived = chain(["a", "b"], cancel_last=False)
    for first, second in ((moved, arrived), (arrived, moved)):
        model = Model()
        model.tell([first])
        assert model.rows[invitee("b")].waits_since == first.delivery.received_at
        assert model.rows[invitee("a")].waits_since is None
        model.tell([second])
        assert model.rows[invitee("b")].waits_since is None


@pytest.mark.parametrize(
    ("facts", "limit", "reason"),
    [
        ([created("a", 0, old=f"o{number}") for number in range(MAX_LINKS + 1)], MAX_LINKS, "contradictory"),
        ([marked("a", 20, number=number) for number in range(MAX_TOGGLES + 1)], MAX_TOGGLES, "too_many_toggles"),
        ([cleared("a", number) for number in range(MAX_TOGGLES + 1)], MAX_TOGGLES, "too_many_toggles"),
    ],
    ids=["links", "marks", "clears"],
)
def test_a_row_has_a_limit(facts: list[Fact], limit: int, reason: str) -> None:
    """At the limit all is taken; one past it goes to quarantine with its reason, and changes nothing."""
    batch = Batch(facts)
    outcomes = [each.outcome for each in batch.results]
    assert DeliveryOutcome.QUARANTINED not in outcomes[:limit]
    assert outcomes[limit:] == [DeliveryOutcome.QUARANTINED]
    [refused] = [each for each in batch.results if each.reason]
    assert refused.reason == reason
    assert batch.merged() == Batch(facts[:-1]).merged()


@pytest.mark.parametrize("story", ALL)
def test_the_first_fact_gives_what_it_would_give_on_a_blank_row(story: str) -> None:
    """A row made in one step equals the row that the same fact makes of a blank one."""
    for each in ALL[story]:
        uri = each.payload.uri
        assert new_booking(uri, "A", "key", each.payload) == updated(Booking(uri, "A", "key", uri), each.payload)
