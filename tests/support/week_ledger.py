"""What a week's agents have done, beside what Calendly has: nothing twice, nothing left out."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import orjson

from slotwire.schemas.topics import INVITEE
from tests.support.kept_availability import KeptAvailability
from tests.support.relay_setup import committed_records
from tests.support.week_story import ELSEWHERE, WeekStory
from tests.support.week_world import AGENTS, READER, WeekWorld

RESCHEDULED = "io.slotwire.invitee.rescheduled.v1"
_HEADING = re.compile(r"^Bookings for \w+, (\d+ \w+ \d+)$", re.MULTILINE)
_ROW = re.compile(r"^(New|Moved|Canceled|No-show|No-show cleared) {2,}(?=“)")
_MEETING = re.compile(r"^(\d\d:\d\d)-\d\d:\d\d +“")
_NAME = re.compile(r"^ +“([^”]*)”")

Meetings = list[tuple[str, str]]
"""When a meeting begins, as `HH:MM`, and who booked it."""


def day_of(text: str) -> date:
    """Read whose day a digest lists."""
    found = _HEADING.search(text)
    assert found is not None, text[:200]
    return datetime.strptime(found[1], "%d %B %Y").date()  # noqa: DTZ007 - a day has no zone


def changes_of(text: str) -> Counter[tuple[str, str]]:
    """Read the changes that a digest tells: what happened, and to whom."""
    lines = text.splitlines()
    return Counter(
        (kind[1], name[1])
        for line, following in pairwise(lines)
        if (kind := _ROW.match(line)) and (name := _NAME.match(following))
    )


def meetings_of(text: str) -> Meetings:
    """Read the meetings that a digest lists."""
    found, begins = Meetings(), ""
    for line in text.partition("\nChanges")[0].splitlines():
        if meeting := _MEETING.match(line):
            begins = meeting[1]
        elif begins and (name := _NAME.match(line)):
            found.append((begins, name[1]))
    return sorted(found)


@dataclass
class WeekLedger:
    """Notes what there was when a digest was due, and compares at the end.

    Attributes:
        listed: the meetings of each day, by host, as they were when its digest was due.
        happened: what there was to tell when the last digest was due.
        counted: what was compared, in numbers, for whoever runs the long form.
    """

    world: WeekWorld
    story: WeekStory
    listed: dict[date, dict[str, Meetings]] = field(default_factory=dict)
    happened: Counter[tuple[str, str]] = field(default_factory=Counter)
    counted: Counter[str] = field(default_factory=Counter)

    def note(self, moment: datetime) -> None:
        """Note the meetings of the day that a digest lists which is due at a moment. Who is moved is left out."""
        day, found = moment.date() + timedelta(days=1), defaultdict[str, Meetings](list)
        for person in self.story.people.values():
            last = self.story.of(person)[-1]
            meeting = self.story.meeting(last)
            if last.status == "active" and meeting.start.date() == day:
                found[meeting.host].append((f"{meeting.start:%H:%M}", person.name))
        self.listed[day] = dict(found)
        self.happened = self.story.changes()

    async def check(self) -> None:
        """Compare everything."""
        unsure = await self.moves()
        await self.marks(unsure)
        await self.told()
        self.digests(unsure)
        await KeptAvailability(self.world.calendly, self.world.kafka, self.world.ask, days=10).agrees()
        await self.gone()
        await self.nothing_elsewhere()

    async def moves(self) -> set[str]:
        """Each holds one booking, told as one move, or a person is to see to it and is told why; returns of whom."""
        rows = {
            row["target"]: row
            for row in await self.world.ask("SELECT * FROM slotwire.actions WHERE verb = 'reschedule' ORDER BY id")
        }
        letters = {row["subject"]: row for row in await self.world.ask("SELECT * FROM slotwire.dead_letters")}
        records = await committed_records(self.world.settings, 0, INVITEE)
        told = Counter(
            dict(record.headers)["ce_subject"].decode()
            for record in records
            if dict(record.headers)["ce_type"].decode() == RESCHEDULED
        )
        unsure = set[str]()
        for person in self.story.people.values():
            old, *new = theirs = self.story.of(person)
            active = [each for each in theirs if each.status == "active"]
            row = rows.get(old.uri)
            said = f"{person}: {[(each.status, each.uri) for each in theirs]}, {row}"
            if not person.away:
                assert len(active) <= 1, said
            elif person.group:
                assert (active, new) == ([old], []), said
                assert "a group event" in letters[old.uri]["reason"], said
                self.counted["told a person why"] += 1
            elif row is not None and row["state"] == "done":
                assert (len(active), len(new), old.status) == (1, 1, "canceled"), said
                assert self.story.meeting(active[0]).start.date() != self.world.away.date(), said
                self.counted["moved"] += 1
            else:
                assert row is not None, said
                assert row["state"] in {"person", "not_seen"}, said
                assert row["reason"], said
                assert old.status == "active", said
                unsure.add(person.name)
                self.counted["with a person"] += 1
            if person.name not in unsure:
                assert [told[each.uri] for each in theirs] == [0, *[1] * len(new)], said
        return unsure

    async def marks(self, moves: set[str]) -> set[str]:
        """Marked is who did not come, once; a mark of somebody else's stays, and one that was taken back.

        What is not known to be ours, or to be done, is with a person, or somebody else's: returns about whom.
        """
        rows = await self.world.ask("SELECT * FROM slotwire.actions WHERE state <> 'done'")
        unsure = set[str]()
        for person in self.story.people.values():
            last = self.story.of(person)[-1]
            over = self.story.meeting(last).end + timedelta(days=1, hours=1) < self.world.now
            if last.status != "active" or not over or person.name in moves:
                continue
            odd = [row for row in rows if last.uri in {row["target"], row["invitee"]}]
            if any(row["state"] != "refused" for row in odd):
                assert all(row["reason"] or row["state"] == "done_by_other" for row in odd), odd
                unsure.add(person.name)
                self.counted["not known to be ours"] += 1
                continue
            assert (last.no_show is not None) is person.marked, (person, last, odd)
            self.counted[person.attends if person.seen_to else f"{person.attends}, not seen to"] += 1
        return unsure

    async def told(self) -> None:
        """Every event was told, with one id and one body, and those of a booking in their order."""
        ours = "SELECT event_id FROM slotwire.events WHERE position > $1 AND org = $2"
        rows = await self.world.ask(ours, self.world.began_after, self.world.org)
        told = self.world.receivers.told
        assert {each.id for each in told} == {str(row["event_id"]) for row in rows}
        bodies, last = dict[str, object](), dict[str, int]()
        for each in told:
            assert bodies.setdefault(each.id, each.body) == each.body
            assert each.body["sequence"] >= last.get(each.body["key"], 0), "in the order of each booking"
            last[each.body["key"]] = each.body["sequence"]
        self.counted |= Counter({"events told": len(rows), "of them again": len(told) - len(rows)})

    def digests(self, unsure: set[str]) -> None:
        """Each reader has one digest a day, and they tell each change once, and list what there is on their days."""
        receivers = self.world.receivers
        mails = [each for each in receivers.mails if each.to == READER]
        by_way = {
            "mail": [(each.id, each.text) for each in mails],
            "webhook": [(each.id, each.body["data"]["text"]) for each in receivers.posted],
            "file": [(each.name, each.read_text()) for each in self._files()],
        }
        for way, came in by_way.items():
            texts = _once(came)
            assert sorted(map(day_of, texts)) == sorted(self.listed), way
            told = sum(map(changes_of, texts), Counter[tuple[str, str]]())
            more, less = _sure(told - self.story.changes(), unsure), _sure(self.happened - told, unsure)
            assert (more, less) == ({}, {}), f"{way}: too much, and not told"
            for text in texts:
                every = [each for found in self.listed[day_of(text)].values() for each in found]
                self._lists(text, every, unsure)
            self.counted[f"digests by {way}"] += len(texts)
        for host in self.world.calendly.world.members(self.world.org):
            texts = _once((each.id, each.text) for each in receivers.mails if each.to == host.email)
            days = [day for day, found in self.listed.items() if host.id in found]
            assert sorted(map(day_of, texts)) == sorted(days), host
            told = sum(map(changes_of, texts), Counter[tuple[str, str]]())
            assert not told - self.story.changes(host.id), "nothing twice, nothing of another's"
            for text in texts:
                self._lists(text, self.listed[day_of(text)][host.id], unsure)
            self.counted["digests of hosts"] += len(texts)

    def _lists(self, text: str, wanted: Meetings, unsure: set[str]) -> None:
        moved = unsure | {each.name for each in self.story.people.values() if each.away}
        listed = [each for each in meetings_of(text) if each[1] not in moved]
        assert listed == sorted(each for each in wanted if each[1] not in moved), text

    def _files(self) -> list[Path]:
        return sorted((self.world.output / self.world.org).glob("digest-*.txt"))

    async def gone(self) -> None:
        """The event type that ended has a tombstone, and nothing else has one."""
        kept = KeptAvailability(self.world.calendly, self.world.kafka, self.world.ask, days=10)
        [key] = [key.decode() for key, value in (await kept.records()).items() if value is None]
        assert key.endswith(self.story.ended)

    async def nothing_elsewhere(self) -> None:
        """Of the other organization each agent said what it would do, and nobody was reached and nothing changed."""
        world, receivers = self.world, self.world.receivers
        log = (world.folder / "agents.log").read_text().splitlines()
        said = [orjson.loads(line) for line in log if '"event":"dry_run"' in line]
        assert {(each["agent"], each["organization"]) for each in said} == {(name, world.other) for name in AGENTS}
        calls = world.calendly.gate.calls
        changed = calls.listing(0, 100_000, lambda each: each.organization == world.other and each.method != "GET")
        assert {each.path for each in changed} == {"/webhook_subscriptions"}, "made when it was connected"
        assert calls.foreign_count == 0
        posts = (str(each.body) for each in (*receivers.told, *receivers.posted))
        sent = (*posts, *(f"{each.to} {each.text}" for each in receivers.mails))
        hosts = tuple(each.email for each in world.calendly.world.members(world.other))
        assert not [each for each in sent for word in (world.other, ELSEWHERE, *hosts) if word in each]
        assert not (world.output / world.other).exists()
        assert await world.ask("SELECT FROM slotwire.availability WHERE org = $1", world.other) == []
        assert await world.ask("SELECT FROM slotwire.actions WHERE org = $1", world.other) == []


def _once(came: Iterable[tuple[str, str]]) -> list[str]:
    """Return each message once; copies say the same."""
    found = dict[str, str]()
    for ident, text in came:
        assert changes_of(found.setdefault(ident, text)) == changes_of(text), "copies tell the same"
    return list(found.values())


def _sure(changes: Counter[tuple[str, str]], unsure: set[str]) -> Counter[tuple[str, str]]:
    return Counter({each: number for each, number in changes.items() if each[1] not in unsure})
