"""Two organizations in one log: nothing that one's deliveries say changes anything of the other's, by a byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count, pairwise
from uuid import uuid4

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotwire.ingest.log.batch import Batch, EventRow, Result
from slotwire.ingest.log.booking import Booking
from slotwire.ingest.log.delivery import Delivery, Origin, Tenant
from slotwire.ingest.log.move import MoveFact
from slotwire.ingest.log.normalize import Fact, InviteeFact, normalize
from slotwire.ingest.log.outcome import DeliveryOutcome
from tests.support.booking_histories import (
    CONTRADICTIONS,
    HISTORIES,
    TENANT,
    canceled,
    chain,
    cleared,
    created,
    marked,
    no_shows,
)
from tests.support.log_model import Model
from tests.support.writing import accepted

OTHER = Tenant("https://api.calendly.com/organizations/B", "B", "bee")
ALL = {
    **HISTORIES,
    **CONTRADICTIONS,
    "hijacks a chain": [*chain(["c", "b", "a"]), created("x", 5, old="a"), canceled("a", 1, new="x")],
    "hijacks marks": [*no_shows("a"), marked("b", 20, number=20), cleared("a", 20), canceled("a", 21, old="b")],
}
"""Every history is about the same few invitees, meetings and marks, so any two of them name each other's."""
BODIES = [
    orjson.dumps({"event": "contact.created", "payload": {"uri": "https://api.calendly.com/contacts/C"}}),
    orjson.dumps({"event": "contact.updated", "payload": {"uri": "https://api.calendly.com/contacts/C", "name": "x"}}),
    b"not JSON",
    orjson.dumps({"event": "invitee.moved", "payload": {}}),
]


_POSITIONS = count(1_000_000)


ORIGINS = (Origin.WEBHOOK, Origin.BACKFILL, Origin.RECONCILE, Origin.RETRY)
"""Whatever lets a fact in: Calendly, what fetches, an operator who retries."""


def told_again(fact: Fact, tenant: Tenant, origin: Origin = Origin.WEBHOOK) -> Fact:
    """Tell a fact by another delivery, perhaps of another organization."""
    changed = {"tenant": tenant, "id": uuid4(), "position": next(_POSITIONS), "origin": origin}
    delivery = Delivery(**{**fact.delivery._asdict(), **changed})
    return (
        fact._replace(delivery=delivery)
        if isinstance(fact, InviteeFact | MoveFact)
        else replace(fact, delivery=delivery)
    )


def told_by(tenant: Tenant, story: str) -> list[Fact]:
    """Let an organization tell a history, of a contact, and what cannot be read."""
    others = [fact for body in BODIES for fact in normalize(accepted(body))]
    return [told_again(each, tenant) for each in (*ALL[story], *others)]


Steps = Sequence[tuple[Sequence[Fact], bool]]
"""Batches, each with whether the clears that wait are published after it."""


def run(steps: Steps, org: str | None = None) -> Model:
    """Write batches; of each only what one organization told, if one is named."""
    model = Model()
    told: list[Fact] = []
    for facts, overdue in steps:
        mine = [each for each in facts if org is None or each.delivery.tenant.org == org]
        told += mine
        model.tell(mine)
        if overdue:
            model.publish_overdue(told)
    return model


def seen_by(model: Model, org: str) -> tuple[list[EventRow], dict[str, Booking], list[Result]]:
    """Return all that an organization has in a log: its events and results in their order, and its bookings."""
    results = [each for each in model.results if each.delivery.tenant.org == org]
    return [each for each in model.log if each.org == org], model.of(org), results


def check_apart(data: st.DataObject, one: str, other: str) -> None:
    """Interleave two histories in any order and batches, with copies of any origin; compare each with itself alone."""
    told = [*told_by(TENANT, one), *told_by(OTHER, other)]
    # Places are drawn, not facts: those are large, and Hypothesis would write each down.
    places = st.tuples(st.integers(0, len(told) - 1), st.sampled_from(ORIGINS))
    copies = [(told[place], origin) for place, origin in data.draw(st.lists(places, max_size=6))]
    doubled = told + [told_again(each, each.delivery.tenant, origin) for each, origin in copies]
    shuffled = [doubled[place] for place in data.draw(st.permutations(range(len(doubled))))]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(shuffled) - 1), max_size=6)))
    steps = [(shuffled[a:b], data.draw(st.booleans())) for a, b in pairwise([0, *cuts, len(shuffled)])]
    together = run(steps)
    for org in (TENANT.org, OTHER.org):
        assert seen_by(together, org) == seen_by(run(steps, org), org)
    assert {each.org for each in together.log} == {TENANT.org, OTHER.org}


@pytest.mark.parametrize("one", ALL)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_no_organization_changes_anothers_events(one: str, data: st.DataObject) -> None:
    """Events, bookings and results of both are what each would have alone, whatever they name of each other's."""
    check_apart(data, one, data.draw(st.sampled_from(list(ALL))))
    assert ALL[one]


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None)
@given(data=st.data(), one=st.sampled_from(list(ALL)), other=st.sampled_from(list(ALL)))
def test_no_organization_changes_anothers_events_soak(data: st.DataObject, one: str, other: str) -> None:
    """The same over ten thousand pairs."""
    check_apart(data, one, other)
    assert ALL[one]


def test_the_comparison_notices_a_shared_booking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Joined with bookings of any organization, the second one's booking of the same name would have no created."""
    facts = [told_again(created("a", 0), tenant) for tenant in (TENANT, OTHER)]
    alone = seen_by(run([(facts, False)], OTHER.org), OTHER.org)
    assert seen_by(run([(facts, False)]), OTHER.org) == alone
    own_tenancy = Batch._tenancy
    monkeypatch.setattr(Batch, "_tenancy", lambda batch, _: own_tenancy(batch, TENANT.org))
    assert seen_by(run([(facts, False)]), OTHER.org)[0] != alone[0]


def test_a_link_to_another_organizations_invitee_is_stored_and_not_followed() -> None:
    """B's booking replaces A's, as B tells it: B gets its event with the link, A's booking and key are not touched."""
    theirs = told_again(created("b", 10, old="a"), OTHER)
    model = Model()
    model.tell([created("a", 0)])
    before = model.of(TENANT.org)
    model.tell([theirs])
    assert model.of(TENANT.org) == before
    rows = model.of(OTHER.org)
    assert {uri.rpartition("/")[2]: row.state for uri, row in rows.items()} == {"a": "named", "b": "active"}
    assert {row.chain_key for row in rows.values()}.isdisjoint(row.chain_key for row in before.values())
    assert [each.outcome for each in model.results] == [DeliveryOutcome.STORED] * 2
