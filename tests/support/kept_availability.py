"""Availability as it is kept, in the table and in the topic, and as Calendly itself says it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
import orjson
from aiokafka import TopicPartition

from slotwire.handlers.agents.availability_sync.reading import ends_after
from slotwire.ingest.foundation.kafka import full_name
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.ingest.simulator.app import Simulator
from slotwire.ingest.simulator.model import uri
from slotwire.schemas.availability import Availability, read_key
from slotwire.schemas.ids import last_segment
from slotwire.schemas.topics import AVAILABILITY
from tests.support.agent_setup import reading
from tests.support.plain_http import NO_TLS

Kept = dict[tuple[str, str], tuple[list[tuple[datetime, int | None]], list[tuple[datetime, datetime]]]]
"""Slots and busy times to come, by user and event type."""


@dataclass(frozen=True)
class KeptAvailability:
    """An organization's, and who may be asked whether it is right.

    Attributes:
        calendly: the simulator.
        kafka: where the topic is.
        rows: asks the database.
        days: how many days are kept.
    """

    calendly: Simulator
    kafka: KafkaSettings
    rows: Callable[[str], Awaitable[Sequence[Any]]]
    days: int

    @property
    def _now(self) -> datetime:
        return self.calendly.engine.clock.now()

    async def at_calendly(self) -> Kept:
        """Ask Calendly itself, as the organization's owner."""
        org, world, now, found = last_segment(self.calendly.organization), self.calendly.world, self._now, Kept()
        first, ends = now + timedelta(minutes=1), ends_after(now, self.days)
        headers = {"Authorization": f"Bearer {self.calendly.owner_token}"}
        async with httpx.AsyncClient(base_url=self.calendly.url, headers=headers, timeout=60, verify=NO_TLS) as client:

            async def ask(path: str, start: datetime, end: datetime, **query: str) -> list[dict[str, Any]]:
                span = {"start_time": start.isoformat(), "end_time": end.isoformat()}
                told: list[dict[str, Any]] = (await client.get(path, params=query | span)).json()["collection"]
                return told

            for host in world.members(org):
                user, busy = uri("users", host.id), list[dict[str, Any]]()
                for week in range(-(-self.days // 7)):
                    start = first + timedelta(days=7 * week)
                    busy += await ask("/user_busy_times", start, min(start + timedelta(days=7), ends), user=user)
                for each in world.offers(org):
                    if each.active and each.owner == host.id:
                        kind = uri("event_types", each.id)
                        slots = await ask("/event_type_available_times", first, ends, event_type=kind)
                        found[user, kind] = _to_come(slots, busy, now)
        return found

    async def in_table(self) -> Kept:
        """Read the table."""
        rows = await self.rows("SELECT * FROM slotwire.availability WHERE NOT gone")
        return {
            (row["user_uri"], row["event_type"]): _to_come(
                orjson.loads(row["slots"]), orjson.loads(row["busy"]), self._now
            )
            for row in rows
        }

    async def in_topic(self) -> Kept:
        """Read what a consumer of the topic has at its end."""
        now, last = self._now, await self.records()
        return {
            read_key(key): _to_come(
                [each.model_dump(mode="json") for each in value.slots],
                [each.model_dump(mode="json") for each in value.busy],
                now,
            )
            for key, value in last.items()
            if value is not None
        }

    async def records(self) -> dict[bytes, Availability | None]:
        """Read the last record of each key; None is a tombstone."""
        topic = full_name(self.kafka, AVAILABILITY)
        places = [TopicPartition(topic, number) for number in range(self.kafka.partitions)]
        found: dict[bytes, Availability | None] = {}
        async with reading(self.kafka.bootstrap_servers) as consumer:
            consumer.assign(places)
            await consumer.seek_to_beginning()
            ends = await consumer.end_offsets(places)
            for place in places:
                while await consumer.position(place) < ends[place]:
                    for records in (await consumer.getmany(place, timeout_ms=50)).values():
                        for each in records:
                            found[each.key] = each.value and Availability.model_validate_json(each.value)
        return found

    async def agrees(self) -> None:
        """Check that table and topic are what Calendly says."""
        told = await self.at_calendly()
        assert await self.in_table() == told
        assert await self.in_topic() == told


def _to_come(slots: list[Any], busy: list[Any], now: datetime) -> Any:
    return (
        [
            (at, each["invitees_remaining"])
            for each in slots
            if (at := datetime.fromisoformat(each["start_time"])) > now + timedelta(minutes=1)
        ],
        sorted(
            {
                (datetime.fromisoformat(each["start_time"]), end)
                for each in busy
                if (end := datetime.fromisoformat(each["end_time"])) > now + timedelta(minutes=1)
            }
        ),
    )
