"""Which invitee replaces which by an action: known by its tag, else by what is expected, within one organization."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest

from slotwire.ingest.log.delivery import Origin, Tenant
from slotwire.ingest.log.move import SKEW, Move
from slotwire.ingest.log.normalize import InviteeFact, normalize
from slotwire.ingest.log.replacing import Replacing, concerned
from slotwire.ingest.receive.accept import move_row
from slotwire.schemas.ids import person_digest
from tests.support.writing import ARRIVED, TENANT, accepted

API = "https://api.calendly.com"
OLD, NEW = (f"{API}/scheduled_events/{name}/invitees/I" for name in ("OLD", "NEW"))
START = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)
TAG = "slotwire-tag"
OTHERS = Tenant(f"{API}/organizations/ANOTHER", "ANOTHER", None)


def move(number: int = 1, *, tag: str | None = None, **more: Any) -> Move:
    """Expect the new invitee."""
    known = Move(
        UUID(int=number),
        "ORGANIZATION",
        OLD,
        tag,
        f"{API}/event_types/T",
        START,
        person_digest("z@example.test"),
        ARRIVED,
    )
    return known._replace(**more)


def fact(event: str = "invitee.created", uri: str = NEW, tenant: Tenant = TENANT, **more: Any) -> InviteeFact:
    """Hear of a booking by API."""
    payload: dict[str, Any] = {
        "uri": uri,
        "email": "Z@example.test",
        "status": "active",
        "created_at": ARRIVED.isoformat(),
        "scheduling_method": "api",
        "scheduled_event": {
            "uri": f"{API}/scheduled_events/NEW",
            "event_type": f"{API}/event_types/T",
            "start_time": START.isoformat(),
        },
        "tracking": {},
    }
    body = orjson.dumps({"event": event, "created_at": ARRIVED.isoformat(), "payload": payload | more})
    [found] = normalize(accepted(body, tenant=tenant))
    assert isinstance(found, InviteeFact)
    return found


@pytest.mark.parametrize(
    ("moves", "told", "replaces"),
    [
        ([move(tag=TAG)], fact(tracking={"utm_term": TAG}), OLD),
        ([move(tag=TAG)], fact(tracking={"utm_content": TAG}, email="b@example.test"), OLD),
        ([move(tag=TAG), move(2)], fact(tracking={"utm_term": TAG}), OLD),
        ([move()], fact(), OLD),
        ([move()], fact(created_at=(ARRIVED - SKEW).isoformat()), OLD),
        ([move()], fact(created_at=(ARRIVED - SKEW - timedelta(seconds=1)).isoformat()), None),
        ([move()], fact(scheduling_method=None), None),
        ([move()], fact(email="b@example.test"), None),
        ([move()], fact(tracking={"utm_term": "slotwire-another"}), None),
        ([move(), move(2)], fact(), None),
        ([move(new_invitee=OLD), move(2)], fact(), OLD),
        ([move(new_invitee=NEW)], fact(email="b@example.test"), OLD),
        ([move(ended=True)], fact(), None),
        ([move(tag=TAG)], fact(tracking={"utm_term": TAG}, tenant=OTHERS), None),
        ([move()], fact(old_invitee=OLD), None),
        ([], fact(), None),
    ],
)
def test_a_booking_replaces_the_one_whose_move_it_fits(
    moves: list[Move], told: InviteeFact, replaces: str | None
) -> None:
    """One move or none, of its own organization; what Calendly itself links is left to it."""
    known = Replacing(moves)
    [found] = known.follow([told])
    assert isinstance(found, InviteeFact)
    assert found.replaces == replaces
    assert [each.new_invitee for each in known.changed.values()] in ([], [NEW])


def test_the_writer_learns_of_a_move_by_the_door() -> None:
    """The row that an action lets in is a move, which the facts after it are part of."""
    row = move_row(
        "ORGANIZATION",
        ARRIVED,
        action=str(UUID(int=7)),
        old_invitee=OLD,
        tag=None,
        event_type=f"{API}/event_types/T",
        start_time=START.isoformat(),
        person=person_digest("z@example.test"),
    )
    assert row.body is not None
    [intended] = normalize(accepted(row.body, origin=Origin.OWN))
    canceled = fact("invitee.canceled", OLD, cancellation={"canceler_type": "host", "created_at": ARRIVED.isoformat()})
    by_invitee = fact("invitee.canceled", OLD, cancellation={"canceler_type": "invitee"})
    known = Replacing()
    [_, created, ended, theirs] = known.follow([intended, fact(), canceled, by_invitee])
    assert (created.replaces, ended.part_of_action, theirs.part_of_action) == (OLD, UUID(int=7), None)  # type: ignore[union-attr]  # facts about invitees
    assert orjson.loads(known.rows())[0] | {"new_invitee": NEW, "ended": False} == orjson.loads(known.rows())[0]
    assert concerned([intended]) == (["ORGANIZATION"], [])
    assert concerned([fact(scheduling_method=None)]) == ([], [])
