"""Subscriptions, messages, and every attempt to deliver them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from slotwire.ingest.simulator.clock import stamp
from slotwire.ingest.simulator.database import SimulatorDatabase
from slotwire.ingest.simulator.model import Attempt, Json, Message, MessageState, SimulatedSubscription

SUBSCRIPTION = TypeAdapter(SimulatedSubscription)
COLUMNS = (
    "number, subscription, event, resource, body, created_at, due_at, state, attempts,"
    " first_attempt_at, signed_at, after, duplicate_of"
)


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which messages a listing holds; None means all."""

    state: str | None = None
    event: str | None = None
    resource: str | None = None
    subscription: str | None = None


class DeliveryLedger:
    """Stores subscriptions, messages and attempts. The few subscriptions are in memory too."""

    def __init__(self, database: SimulatorDatabase) -> None:
        self._database = database
        rows = database.rows("SELECT doc FROM subscriptions")
        found = [SUBSCRIPTION.validate_json(doc) for (doc,) in rows]
        self._subscriptions = {each.id: each for each in sorted(found, key=lambda each: (each.created_at, each.id))}

    def subscriptions(self) -> tuple[SimulatedSubscription, ...]:
        """Return all subscriptions, the oldest first."""
        return tuple(self._subscriptions.values())

    def subscription(self, ident: str) -> SimulatedSubscription | None:
        """Return a subscription by its id."""
        return self._subscriptions.get(ident)

    def put_subscription(self, value: SimulatedSubscription) -> None:
        """Write a subscription."""
        self._subscriptions[value.id] = value
        self._database.write(
            "INSERT OR REPLACE INTO subscriptions VALUES (?, ?)", (value.id, SUBSCRIPTION.dump_json(value))
        )

    def delete_subscription(self, ident: str) -> None:
        """Delete a subscription and abandon its pending messages."""
        del self._subscriptions[ident]
        self._database.write("DELETE FROM subscriptions WHERE id = ?", (ident,))
        self._database.write(
            "UPDATE messages SET state = 'abandoned' WHERE subscription = ? AND state = 'pending'", (ident,)
        )

    def next_message_id(self) -> str:
        """Return the id of the next message: `m1`, `m2` …."""
        return f"m{self._database.next_number('message')}"

    def put_message(self, message: Message) -> None:
        """Write a new message."""
        self._database.write(
            f"INSERT INTO messages ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                _number(message.id),
                message.subscription,
                message.event,
                message.resource,
                message.body,
                stamp(message.created_at),
                stamp(message.due_at),
                message.state,
                message.attempts,
                message.first_attempt_at and stamp(message.first_attempt_at),
                message.signed_at,
                _number(message.after),
                _number(message.duplicate_of),
            ),
        )

    def update_message(self, message: Message) -> None:
        """Write the state of a message, its attempts and the time of the next one."""
        self._database.write(
            "UPDATE messages SET state = ?, attempts = ?, due_at = ?, first_attempt_at = ?, signed_at = ?"
            " WHERE number = ?",
            (
                message.state,
                message.attempts,
                stamp(message.due_at),
                message.first_attempt_at and stamp(message.first_attempt_at),
                message.signed_at,
                _number(message.id),
            ),
        )

    def put_attempt(self, attempt: Attempt) -> None:
        """Write an attempt."""
        self._database.write(
            "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                _number(attempt.message),
                attempt.number,
                stamp(attempt.at),
                attempt.seconds,
                attempt.status,
                attempt.error,
                attempt.fault,
            ),
        )

    def message(self, ident: str) -> Message | None:
        """Return a message by its id."""
        found = self._database.row(f"SELECT {COLUMNS} FROM messages WHERE number = ?", (_number(ident),))
        return _message(found) if found else None

    def pending(self) -> list[Message]:
        """Return every pending message."""
        return [
            _message(row)
            for row in self._database.rows(f"SELECT {COLUMNS} FROM messages WHERE state = 'pending' ORDER BY number")
        ]

    def listing(self, wanted: MessageFilter, beyond: int, count: int) -> list[tuple[Message, list[Attempt]]]:
        """Return messages after number `beyond`, each with its attempts."""
        where, values = ["number > ?"], [beyond]
        for column in ("state", "event", "resource", "subscription"):
            value = getattr(wanted, column)
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        rows = self._database.rows(
            f"SELECT {COLUMNS} FROM messages WHERE {' AND '.join(where)} ORDER BY number LIMIT ?", (*values, count)
        )
        return [(message, self.attempts(message.id)) for message in map(_message, rows)]

    def attempts(self, message: str) -> list[Attempt]:
        """Return a message's attempts in their order."""
        rows = self._database.rows(
            "SELECT message, number, at, seconds, status, error, fault FROM attempts WHERE message = ? ORDER BY number",
            (_number(message),),
        )
        return [
            Attempt(f"m{message}", number, datetime.fromisoformat(at), seconds, status, error, fault)
            for message, number, at, seconds, status, error, fault in rows
        ]

    def summary(self) -> Json:
        """Return counts of messages by state and event, and of attempts by outcome."""
        states = dict(self._database.rows("SELECT state, count(*) FROM messages GROUP BY state"))
        events: dict[str, dict[str, int]] = {}
        for event, state, count in self._database.rows(
            "SELECT event, state, count(*) FROM messages GROUP BY event, state ORDER BY event, state"
        ):
            events.setdefault(event, {})[state] = count
        outcomes = dict(
            self._database.rows(
                "SELECT coalesce(cast(status AS TEXT), error), count(*) FROM attempts GROUP BY 1 ORDER BY 1"
            )
        )
        extra = self._database.row("SELECT count(*) FROM messages WHERE duplicate_of IS NOT NULL")
        return {
            "messages": sum(states.values()),
            "states": {state: states.get(state, 0) for state in ("pending", "acknowledged", "abandoned", "dropped")},
            "duplicates": extra[0] if extra else 0,
            "events": events,
            "attempts": sum(outcomes.values()),
            "outcomes": outcomes,
        }


def _number(ident: str | None) -> int | None:
    return int(ident[1:]) if ident else None


def _moment(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None


def _message(row: tuple[Any, ...]) -> Message:
    number, subscription, event, resource, body, created, due, state, attempts, first, signed, after, duplicate = row
    known: MessageState = state
    return Message(
        id=f"m{number}",
        subscription=subscription,
        event=event,
        resource=resource,
        body=body,
        created_at=datetime.fromisoformat(created),
        due_at=datetime.fromisoformat(due),
        state=known,
        attempts=attempts,
        first_attempt_at=_moment(first),
        signed_at=signed,
        after=f"m{after}" if after else None,
        duplicate_of=f"m{duplicate}" if duplicate else None,
    )
