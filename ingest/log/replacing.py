"""Which invitee replaces which by an action of ours, told fact by fact in their order. Pure.

A booking by API fits a move by its tag; one without a tag by event type, start, e-mail address, `scheduling_method` and
that it was made after the intent, if exactly one move fits that has no successor yet. A booking that fits none has a
chain of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

import orjson

from slotwire.ingest.log.batch import OverdueClear
from slotwire.ingest.log.move import SKEW, Move, MoveFact
from slotwire.ingest.log.normalize import Fact, InviteeEvent, InviteeFact, OwnFact
from slotwire.schemas.calendly import InviteePayload
from slotwire.schemas.events import ActionSettled
from slotwire.schemas.ids import person_digest

BY_API = "api"
"""`scheduling_method` of a booking by API."""
HOST = "host"
"""`canceler_type` of a cancellation by API."""
TAG = "slotwire-"
"""How each tag begins."""

AnyFact = Fact | OverdueClear


def concerned(facts: Iterable[AnyFact]) -> tuple[list[str], list[str]]:
    """Return the organizations whose moves may matter for some facts, and the invitees that may be moved."""
    orgs, invitees = set[str](), set[str]()
    for fact in facts:
        match fact:
            case InviteeFact() if fact.payload.scheduling_method == BY_API or by_host(fact):
                orgs.add(fact.delivery.tenant.org)
                invitees.add(fact.payload.uri)
            case MoveFact() | OwnFact(data=ActionSettled()):
                orgs.add(fact.delivery.tenant.org)
            case _:
                pass
    return sorted(orgs), sorted(invitees)


def tags_in(facts: Iterable[AnyFact]) -> list[str]:
    """Return the tags of actions that some facts' bookings carry."""
    return sorted({tag for fact in facts if isinstance(fact, InviteeFact) for tag in tags_of(fact.payload)})


class Replacing:
    """The moves that are known, and what facts make of them."""

    def __init__(self, known: Iterable[Move] = ()) -> None:
        self._moves = {move.action_id: move for move in known}
        self.changed: dict[UUID, Move] = {}

    def follow(self, facts: Sequence[AnyFact]) -> list[AnyFact]:
        """Return facts, those about invitees with what they are part of. `changed` has the moves that changed."""
        return [self._followed(fact) for fact in facts]

    def rows(self) -> str:
        """Write the changed moves as JSON."""
        return orjson.dumps([move._asdict() for move in self.changed.values()], default=str).decode()

    def _followed(self, fact: AnyFact) -> AnyFact:
        match fact:
            case MoveFact():
                self._put(self._moves.get(fact.move.action_id, fact.move))
            case OwnFact(data=ActionSettled() as told):
                move = self._moves.get(told.action_id)
                if move is not None and not move.ended and told.state in {"refused", "not_done"}:
                    self._put(move._replace(ended=True))
            case InviteeFact():
                return self._part(fact)
            case _:
                pass
        return fact

    def _part(self, fact: InviteeFact) -> InviteeFact:
        org, payload = fact.delivery.tenant.org, fact.payload
        if by_host(fact):
            for move in self._moves.values():
                at = payload.cancellation.created_at if payload.cancellation else None
                own = move.org == org and move.old_invitee == payload.uri and not move.ended
                if own and (at is None or at >= move.since - SKEW):
                    return fact._replace(part_of_action=move.action_id)
        if payload.scheduling_method != BY_API or payload.old_invitee is not None:
            return fact
        found = self._fitting(org, payload)
        if found is None or found.old_invitee == payload.uri:
            return fact
        if found.new_invitee is None:
            self._put(found._replace(new_invitee=payload.uri))
        return fact._replace(replaces=found.old_invitee)

    def _fitting(self, org: str, payload: InviteePayload) -> Move | None:
        ours = [move for move in self._moves.values() if move.org == org]
        tags = tags_of(payload)
        for move in ours:
            if move.new_invitee == payload.uri or (move.tag is not None and move.tag in tags):
                return move
        if tags:
            return None
        fits = [move for move in ours if move.new_invitee is None and not move.ended and _expected(move, payload)]
        return fits[0] if len(fits) == 1 else None

    def _put(self, move: Move) -> None:
        self._moves[move.action_id] = self.changed[move.action_id] = move


def by_host(fact: InviteeFact) -> bool:
    """Whether it tells of a cancellation that an action may have made."""
    cancellation = fact.payload.cancellation
    return fact.event is InviteeEvent.CANCELED and cancellation is not None and cancellation.canceler_type == HOST


def tags_of(payload: InviteePayload) -> frozenset[str]:
    """Return the tags of actions that a booking carries."""
    tracking = payload.tracking
    values = () if tracking is None else (tracking.utm_term, tracking.utm_content)
    return frozenset(value for value in values if value is not None and value.startswith(TAG) and "\0" not in value)


def _expected(move: Move, payload: InviteePayload) -> bool:
    event = payload.scheduled_event
    return (
        event is not None
        and (event.event_type, event.start_time) == (move.event_type, move.start_time)
        and payload.email is not None
        and person_digest(payload.email) == move.person
        and payload.created_at is not None
        and payload.created_at >= move.since - SKEW
    )
