"""`nightly-digest` in a trial: whom it tells what, when, and what becomes of a reader who cannot be reached."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from slotwire.handlers.agents.nightly_digest import STATE, agent
from slotwire.handlers.reach.bookings import BookingChange, OrganizationBooking
from slotwire.handlers.shipped.digest.plan import MAX_HOSTS
from slotwire.handlers.shipped.settings import MemorySettings
from slotwire.handlers.testing import RecordStatus, Trial, TrialClock
from slotwire.ingest.foundation.errors import OutgoingFailed
from slotwire.ingest.foundation.mail_message import Mail
from slotwire.ingest.foundation.outgoing import Outgoing
from slotwire.ingest.foundation.outgoing_settings import OutgoingSettings
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.schemas.events import InviteeCanceled, InviteeCreated

SIX = datetime(2026, 12, 1, 18, 0, tzinfo=UTC)
HALF_HOUR = timedelta(minutes=30)
OPS, ADA = "ops@example.com", "ada@example.com"
HOST = "https://api.calendly.com/users/ADA"


@dataclass
class Post:
    """A mail server of a test.

    Attributes:
        sent: what it was handed.
        away: readers that it takes no mail for.
        refused: what it did not take.
    """

    sent: list[Mail] = field(default_factory=list)
    away: set[str] = field(default_factory=set)
    refused: list[Mail] = field(default_factory=list)

    async def send(self, mail: Mail) -> None:
        """Take a mail."""
        if mail.to in self.away:
            self.refused.append(mail)
            raise OutgoingFailed("the mail server does not take mail for this reader", reason="recipient")
        self.sent.append(mail)

    @property
    def readers(self) -> list[str]:
        """To whom it was sent."""
        return [mail.to for mail in self.sent]


@dataclass
class World:
    """A trial of the agent, its settings and its ways."""

    trial: Trial
    settings: MemorySettings
    post: Post
    folder: Path

    def wanted(self, **values: Any) -> None:
        """Set what the organization wants."""
        self.settings.values["nightly-digest", "TRIAL"] = values
        agent.install(
            self.settings,
            Outgoing(OutgoingSettings(), purpose="test"),
            mailer=self.post,
            output_folder=self.folder,
        )

    def changed(self, position: int, name: str) -> None:
        """Somebody books."""
        self.trial.chains.beyond.changed.append(
            BookingChange(position, InviteeCreated.type, f"i{position}", SIX, told(name))
        )

    async def fire(self, due: datetime) -> RecordStatus:
        """The clock comes to a half hour."""
        return (await self.trial.fire("digest", due=due)).status


def told(name: str, host: str = HOST, mail: str = ADA) -> InviteeCreated:
    """What an invitee told."""
    return InviteeCreated.model_validate(
        {
            "uri": "https://api.calendly.com/scheduled_events/E/invitees/I",
            "name": name,
            "email": "x@example.com",
            "booking": {"state": "active", "revision": 1, "chain_root": "I"},
            "scheduled_event": {
                "uri": "https://api.calendly.com/scheduled_events/E",
                "name": "Intro",
                "event_memberships": [{"user": host, "user_email": mail, "user_name": "Ada"}],
            },
        }
    )


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An organization with a meeting tomorrow."""
    trial = Trial(agent, clock=TrialClock(SIX), connection=object())
    start = SIX + timedelta(hours=15)
    trial.chains.beyond.known.append(
        OrganizationBooking("I", "E", start, start + HALF_HOUR, (HOST,), "zoom", created=told("Zoë"))
    )
    return World(trial, MemorySettings(), Post(), tmp_path)


async def test_a_reader_is_told_once_a_day_what_is_new(world: World) -> None:
    """At the moment, not before and not again; the next digest tells what happened since; its id is its own."""
    world.wanted(mail=OPS)
    world.changed(1, "First")
    assert await world.fire(SIX - HALF_HOUR) is RecordStatus.DONE
    assert not world.post.sent
    for due in (SIX, SIX + HALF_HOUR, SIX + timedelta(hours=23)):
        assert await world.fire(due) is RecordStatus.DONE
    (first,) = world.post.sent
    assert first.subject == "1 meeting on Wednesday, 2 December 2026, 1 change"
    assert "“First”" in first.text
    world.changed(2, "Second")
    world.trial.chains.beyond.known.clear()
    await world.fire(SIX + timedelta(days=1))
    assert world.post.sent[1].subject == "No meetings on Thursday, 3 December 2026, 1 change"
    assert ("“Second”" in world.post.sent[1].text, "“First”" in world.post.sent[1].text) == (True, False)
    assert world.post.sent[1].id != first.id


async def test_one_who_cannot_be_reached_is_told_later_what_the_others_know(world: World) -> None:
    """Three tries within a firing, and again half an hour later, all with one id and the same changes.

    Nobody else gets anything twice, and what happened between the tries is in the next digest.
    """
    world.wanted(mail=f"{OPS},{ADA}", file=True)
    world.post.away.add(OPS)
    world.changed(1, "First")
    assert await world.fire(SIX) is RecordStatus.DONE
    assert world.post.readers == [ADA]
    assert len(world.post.refused) == 3
    assert len(world.trial.pauses) == 2
    assert sorted(file.name for file in (world.folder / "TRIAL").iterdir()) == [
        "digest-2026-12-02.html",
        "digest-2026-12-02.txt",
    ]
    world.post.away.clear()
    world.changed(2, "Second")
    await world.fire(SIX + HALF_HOUR)
    assert world.post.readers == [ADA, OPS]
    assert {mail.id for mail in world.post.refused} == {world.post.sent[1].id}
    assert ["“First”" in world.post.sent[1].text, "“Second”" in world.post.sent[1].text] == [True, False]
    await world.fire(SIX + 2 * HALF_HOUR)
    await world.fire(SIX + timedelta(days=1))
    assert sorted(world.post.readers[2:]) == sorted([ADA, OPS])
    for mail in world.post.sent[2:]:
        assert ["“First”" in mail.text, "“Second”" in mail.text] == [False, True]


async def test_what_changes_between_two_tries_changes_no_id(world: World) -> None:
    """The plan of a firing is kept: a second try tells the same, under the same id, to the same readers."""
    world.wanted(mail=f"{OPS},{ADA}")
    world.changed(1, "First")
    attempts: list[Mail] = []
    send = world.post.send

    async def lost(mail: Mail) -> None:
        attempts.append(mail)
        if len(attempts) == 1:
            world.changed(2, "Late")
            world.settings.values.clear()
            raise OutgoingFailed("the answer is lost", reason="unreachable")
        await send(mail)

    world.post.send = lost  # type: ignore[method-assign]  # an answer that is lost
    assert await world.fire(SIX) is RecordStatus.DONE
    assert [mail.to for mail in attempts] == [OPS, OPS, ADA]
    assert attempts[0].id == attempts[1].id
    assert "“Late”" not in attempts[1].text


async def test_a_mail_server_that_answers_nothing_costs_no_memory(world: World) -> None:
    """However many wait for it, the run ends in time and remembers who has theirs: later only the others are tried."""
    readers = [f"reader{number:02}@example.com" for number in range(20)]
    world.wanted(mail=",".join((*readers, OPS)), file=True)
    clock = world.trial._clock
    assert isinstance(clock, TrialClock)

    async def hangs(mail: Mail) -> None:
        clock.advance(timedelta(seconds=30))
        await asyncio.sleep(0)  # where the run's limit would end it
        raise OutgoingFailed("the mail server did not answer in time", reason="timeout")

    send, world.post.send = world.post.send, hangs  # type: ignore[method-assign]  # a server that hangs
    assert await world.fire(SIX) is RecordStatus.DONE
    assert not world.trial.dead_letters
    remembered = json.loads(world.trial.chains.remembered["TRIAL", STATE])["sent"]
    assert {memory["failures"] for key, memory in remembered.items() if key != "file"} == {1}
    assert (world.folder / "TRIAL" / "digest-2026-12-02.txt").exists(), "it waits for nobody"
    world.post.send = send  # type: ignore[method-assign]  # it is back
    assert await world.fire(SIX + HALF_HOUR) is RecordStatus.DONE
    assert sorted(world.post.readers) == sorted([*readers, OPS])


async def test_a_defect_costs_one_reader_one_digest(world: World) -> None:
    """Whatever fails for one of them, the others get theirs; so do all where a meeting is at the end of time."""
    world.wanted(mail=f"{OPS},{ADA}", timezone="Asia/Tokyo", at="03:00")
    last = datetime.max.replace(tzinfo=UTC)
    world.trial.chains.beyond.changed.append(BookingChange(1, InviteeCanceled.type, "i", last))
    send = world.post.send

    async def fails(mail: Mail) -> None:
        if mail.to == OPS:
            raise LookupError
        await send(mail)

    world.post.send = fails  # type: ignore[method-assign]  # a defect
    assert await world.fire(SIX) is RecordStatus.DONE
    assert (world.post.readers, world.trial.dead_letters) == ([ADA], [])
    assert "31 Dec 9999, 23:59" in world.post.sent[0].text
    world.post.send = send  # type: ignore[method-assign]  # mended
    assert await world.fire(SIX + HALF_HOUR) is RecordStatus.DONE
    assert world.post.readers == [ADA, OPS]


async def test_hosts_get_what_is_theirs(world: World) -> None:
    """Each at their own address, without what needs attention; where they are elsewhere, in their own time zone."""
    world.wanted(each_host=True, host_timezones="ADA=Asia/Tokyo", at="18:00")
    assert await world.fire(SIX) is RecordStatus.DONE
    assert not world.post.sent, "in Tokyo it is late"
    await world.fire(datetime(2026, 12, 1, 9, 0, tzinfo=UTC))
    (mail,) = world.post.sent
    assert (mail.to, "Meetings hosted by “Ada”" in mail.text, "Asia/Tokyo" in mail.text) == (ADA, True, True)
    assert mail.subject == "1 meeting on Wednesday, 2 December 2026"


async def test_more_hosts_than_a_plan_has_room_for_hold_up_nobody(world: World) -> None:
    """In three time zones with one moment, with long addresses: as many as fit get theirs, and the firing is done."""
    zones, start = ("Europe/Berlin", "Europe/Paris", "Europe/Rome"), SIX + timedelta(hours=15)
    ids, mail = [f"HOST{number:03}" for number in range(MAX_HOSTS + 3)], f"{'x' * 300}@example.com"
    world.trial.chains.beyond.known = [
        OrganizationBooking(f"I{one}", f"E{one}", start, hosts=(one,), created=told("Zoë", one, mail)) for one in ids
    ]
    elsewhere = ",".join(f"{one}={zones[number % 3]}" for number, one in enumerate(ids))
    world.wanted(each_host=True, mail=OPS, timezone=zones[0], host_timezones=elsewhere)
    assert await world.fire(SIX - timedelta(hours=1)) is RecordStatus.DONE
    assert world.post.readers[0] == OPS
    assert MAX_HOSTS / 2 < len(world.post.readers) <= MAX_HOSTS + 1


async def test_a_dry_run_sends_nothing_and_takes_nothing_away(world: World) -> None:
    """Nothing leaves, nothing is written; what was not sent is sent when the dry run is over."""
    world.changed(1, "First")
    world.wanted(mail=OPS, file=True, dry_run=True)
    assert await world.fire(SIX) is RecordStatus.DONE
    assert not world.post.sent
    assert not list(world.folder.iterdir())
    world.wanted(mail=OPS)
    await world.fire(SIX + HALF_HOUR)
    assert "“First”" in world.post.sent[0].text
    states = [json.loads(world.trial.chains.remembered["TRIAL", key]) for key in (STATE, f"{STATE} dry_run")]
    assert [{which: len(memories) for which, memories in state.items()} for state in states] == [
        {"sent": 1},
        {"dry_run": 2},
    ]


async def test_without_settings_nothing_is_sent(world: World) -> None:
    """Nor where what they need is not there; that is counted, and tried again."""
    agent.install(world.settings, Outgoing(OutgoingSettings(), purpose="test"), mailer=world.post)
    assert await world.fire(SIX) is RecordStatus.DONE
    assert not world.trial.chains.remembered
    world.wanted(file=True)
    agent.output_folder = None
    labels = {"way": "file", "outcome": "failed"}
    before = REGISTRY.get_sample_value("slotwire_digests_total", labels) or 0
    assert await world.fire(SIX + HALF_HOUR) is RecordStatus.DONE
    assert json.loads(world.trial.chains.remembered["TRIAL", STATE])["sent"]["file"]["failures"] == 1
    assert REGISTRY.get_sample_value("slotwire_digests_total", labels) == before + 1
