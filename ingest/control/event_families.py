"""Which families of events Calendly refuses: found by asking for each of them. Pure.

A refusal names no event: it says that the plan, or the token's scopes, do not allow what was asked for. So what is
about bookings is asked for first, and then each other family by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from slotwire.ingest.control.catalogue import BOOKINGS, family_of
from slotwire.ingest.errors import CalendlyError, CalendlyProblem

_REFUSALS = {
    CalendlyProblem.PLAN: "plan",
    CalendlyProblem.SCOPE: "scope",
    CalendlyProblem.INVALID: "scope",  # as Calendly answers when an event's read scope is missing
    CalendlyProblem.PERMISSION: "role",
}


def refusal_of(error: CalendlyError) -> str | None:
    """Return why Calendly does not make a subscription: `plan`, `scope` or `role`; None if it failed."""
    return _REFUSALS.get(error.problem)


class FamilyQuestions:
    """What to ask about wanted events that were refused together, and what the answers say."""

    def __init__(self, events: Sequence[str], reason: str) -> None:
        self._families: dict[str, tuple[str, ...]] = {}
        for event in events:
            self._families[family_of(event)] = (*self._families.get(family_of(event), ()), event)
        self._answers: dict[str, str | None] = {}
        self._reason = reason

    def first(self, served: Collection[str]) -> Iterator[tuple[str, ...]]:
        """Yield the events to subscribe to before anything is asked: those of bookings, unless they are served.

        Only their family in the whole: then they are what was refused, and are yielded again to hear it.
        """
        bookings = self._families.get(BOOKINGS, ())
        if bookings and not set(bookings) <= set(served):
            yield bookings
        if bookings:
            self._answers[BOOKINGS] = None

    def others(self) -> tuple[tuple[str, ...], ...]:
        """Return the events of each family that must be asked about. Of one beside the bookings the answer is known."""
        rest = [family for family in self._families if family not in self._answers]
        if len(rest) == 1 and self._answers:
            self._answers[rest[0]] = self._reason
            return ()
        return tuple(self._families[family] for family in rest)

    def answer(self, events: Sequence[str], refusal: str | None) -> None:
        """Note what Calendly said about a family: why it refused, or None."""
        self._answers[family_of(events[0])] = refusal

    @property
    def allowed(self) -> tuple[str, ...]:
        """The events that Calendly did not refuse."""
        return tuple(
            event
            for family, events in self._families.items()
            if self._answers.get(family, self._reason) is None
            for event in events
        )

    def refused(self, reason: str) -> tuple[str, ...]:
        """Return the events that Calendly refused for a reason; a role that forbids some counts as a scope."""
        return tuple(
            event
            for family, events in self._families.items()
            if (said := self._answers.get(family, self._reason)) is not None
            and ("plan" if said == "plan" else "scope") == reason
            for event in events
        )
