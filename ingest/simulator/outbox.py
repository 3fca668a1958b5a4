"""Writes the messages about an event: one per matching subscription, with the injected faults."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta

from slotwire.ingest.simulator import payloads
from slotwire.ingest.simulator.bookings import Bookings
from slotwire.ingest.simulator.clock import DrivenClock
from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.ledger import DeliveryLedger
from slotwire.ingest.simulator.model import Message, SimulatedInvitee, SimulatedScheduledEvent, SimulatedSubscription
from slotwire.ingest.simulator.sender import Sender
from slotwire.ingest.simulator.world import World

AT_ONCE = timedelta()


@dataclass(slots=True)
class DeliverySequence:
    """Puts deliveries in order: each waits for the first attempt of the one before it at the same subscription."""

    last: dict[str, str] = field(default_factory=dict)


class Outbox:
    """Writes messages; the caller commits and passes them to the sender."""

    def __init__(
        self, seed: str, world: World, clock: DrivenClock, bookings: Bookings, ledger: DeliveryLedger, sender: Sender
    ) -> None:
        self._seed = seed
        self._world = world
        self._clock = clock
        self._bookings = bookings
        self._ledger = ledger
        self._sender = sender

    def write_invitee_event(
        self,
        name: str,
        invitee: SimulatedInvitee,
        event: SimulatedScheduledEvent,
        sequence: DeliverySequence | None,
        delay: timedelta = AT_ONCE,
        *,
        omit_no_show: bool = False,
    ) -> tuple[Message, ...]:
        """Write an invitee event to every matching subscription of the organization, the host and their groups."""
        total, active = self._bookings.counts(event.id)
        whole = payloads.scheduled_event(event, self._world.users[event.host], total, active)
        payload = payloads.invitee_payload(invitee, whole, omit_no_show=omit_no_show)
        return self.write_payload(name, invitee.uri, payload, event.organization, sequence, delay, host=event.host)

    def write_payload(
        self,
        name: str,
        resource: str,
        payload: bytes,
        organization: str,
        sequence: DeliverySequence | None,
        delay: timedelta = AT_ONCE,
        *,
        host: str | None = None,
    ) -> tuple[Message, ...]:
        """Write an encoded payload to every matching subscription; without a host, to those of organization scope."""
        now = self._clock.now()
        written: list[Message] = []
        for receiver in self._receivers(name, organization, host):
            message = Message(
                id=self._ledger.next_message_id(),
                subscription=receiver.id,
                event=name,
                resource=resource,
                body=payloads.envelope(name, payload, receiver.creator, now),
                created_at=now,
                due_at=now + delay,
                after=sequence.last.get(receiver.id) if sequence else None,
            )
            written += self._with_faults(message, sequence)
        return tuple(written)

    def _with_faults(self, message: Message, sequence: DeliverySequence | None) -> Iterable[Message]:
        faults = self._sender.faults
        draws = Draws(self._seed, "message", message.id)
        late = timedelta(seconds=draws.fraction() * faults.delay_seconds)
        dropped = draws.chance(faults.drop_rate)
        message = replace(message, due_at=message.due_at + late, state="dropped" if dropped else "pending")
        self._ledger.put_message(message)
        yield message
        if dropped:
            return
        if sequence:
            sequence.last[message.subscription] = message.id
        if draws.chance(faults.duplicate_rate):
            copy = replace(message, id=self._ledger.next_message_id(), after=message.id, duplicate_of=message.id)
            self._ledger.put_message(copy)
            yield copy

    def _receivers(self, event: str, organization: str, host: str | None) -> Iterable[SimulatedSubscription]:
        # Every subscription that matches gets a delivery of its own (docs/reference/calendly.md, "Delivery"); its
        # scope decides which hosts' events it gets (docs/reference/calendly.md, "Webhook subscriptions").
        for each in self._ledger.subscriptions():
            if each.state != "active" or each.organization != organization or event not in each.events:
                continue
            if self._sender.faults.departed_silent and self._departed(each):
                continue
            group = self._world.groups.get(each.group or "")
            if (
                each.scope == "organization"
                or (each.scope == "user" and each.user == host)
                or (each.scope == "group" and group is not None and host in group.members)
            ):
                yield each

    def _departed(self, subscription: SimulatedSubscription) -> bool:
        people = {subscription.creator, subscription.user or subscription.creator}
        return any(self._world.users[each].organization != subscription.organization for each in people)
