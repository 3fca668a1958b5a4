"""Which digests are due, and what is remembered of those that were sent. Pure.

Each reader has a memory of their own: up to which place in the log they were told, and for which moment. So a reader
who could not be reached is told later what the others know, and nobody is told twice because another was away.

The digest of a moment tells the same changes and has the same id, however often and in however many firings it is
tried: nobody may know whether a try arrived, and a mail that has the id of an earlier one is not shown by many readers'
programs. What happens between two tries is told by the next digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5
from zoneinfo import ZoneInfo

import orjson

from slotwire.handlers.shipped.digest.days import latest_moment
from slotwire.handlers.shipped.digest.selection import DigestWindow
from slotwire.ingest.foundation.agent_settings.nightly_digest import NightlyDigestSettings
from slotwire.schemas.ids import last_segment

FIRST_AT_MOST = timedelta(hours=1)
"""A reader's first digest comes no later than so long after its moment; else it waits for the next one."""
FIRST_PAUSE = timedelta(minutes=30)
LONGEST_PAUSE = timedelta(hours=12)
"""Between two tries for a reader who cannot be reached: the first pause, and each is twice the one before."""
FORGOTTEN_AFTER = timedelta(days=60)
"""What is remembered of a host who got no digest for so long is forgotten."""
MAX_HOSTS = 150
"""Hosts of an organization that get their own digest at one moment, whatever their time zones."""
MAX_PLAN_BYTES = 60_000
"""Of the digests of one moment as JSON: they are what a step remembers, which is bounded (`MAX_RESULT_BYTES`)."""
HOSTS = "hosts"
"""What all hosts are remembered by together."""
MAX_MEMORY_BYTES = 60_000
"""Of what is remembered of an organization's readers, as JSON: a state may have little more. Beyond it hosts are
forgotten, first those who got their digest the longest ago: their next one tells of a day."""
_IDS = uuid5(NAMESPACE_URL, "urn:slotwire:digest")
_HOST, _MAIL = "host ", "mail "
_OF_TRIES = frozenset({"trying", "telling"})
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ReaderMemory:
    """What is remembered of a reader.

    Attributes:
        moment: of the last digest that was sent; None for none.
        until: up to which place in the log it told.
        failures: tries in a row that failed since.
        tried: when the last of them was due.
        trying: the moment of the digest that was tried.
        telling: up to which place in the log it tells.
    """

    moment: datetime | None = None
    until: int = 0
    failures: int = 0
    tried: datetime | None = None
    trying: datetime | None = None
    telling: int = 0


Memories = Mapping[str, ReaderMemory]


@dataclass(frozen=True, slots=True)
class PlannedDigest:
    """A digest that is due.

    Attributes:
        key: of the reader: `file`, `webhook`, `mail ` and a digest of the address, or `host ` and a user's id.
        moment: at which it was due.
        after: up to which place in the log the reader was told; None for the first.
        since: when that was.
        zone: the name of the time zone.
        host: whose it is, by URI; None for the whole organization.
        mail: where to; None for a file or a webhook.
        until: up to which place in the log it tells, where an earlier firing has tried it; None: as this one says.
    """

    key: str
    moment: datetime
    after: int | None
    since: datetime
    zone: str
    host: str | None = None
    mail: str | None = None
    until: int | None = None

    def window(self, until: int, settings: NightlyDigestSettings) -> DigestWindow:
        """Return what it is about."""
        zone = ZoneInfo(self.zone)
        return DigestWindow(day_of(self.moment, zone, settings), zone, self.after, until, self.since, self.host)

    def id(self, organization: str, until: int) -> UUID:
        """Return its id: the same however often it is sent, and another one where it tells more."""
        return uuid5(_IDS, "\n".join((organization, self.key, self.moment.isoformat(), str(until))))


def day_of(moment: datetime, zone: ZoneInfo, settings: NightlyDigestSettings) -> date:
    """Return whose meetings a digest lists that was due at a moment."""
    return moment.astimezone(zone).date() + timedelta(days=int(settings.day == "tomorrow"))


def readers_of(settings: NightlyDigestSettings) -> dict[str, str | None]:
    """Return the readers of the organization's own digest by their keys, with the addresses of those who get mail."""
    found: dict[str, str | None] = {"file": None} if settings.file else {}  # first: it waits for nobody
    found |= {mail_key(address): address for address in settings.mail}
    return found | ({"webhook": None} if settings.webhook is not None else {})


def mail_key(address: str) -> str:
    """Return what a reader of mail is remembered by: it names nobody."""
    return _MAIL + hashlib.sha256(address.casefold().encode()).hexdigest()[:16]


def due_readers(settings: NightlyDigestSettings, known: Memories, now: datetime) -> Iterator[PlannedDigest]:
    """Yield the organization's own digests that are due at a time."""
    zone = ZoneInfo(settings.timezone)
    moment = latest_moment(now, settings.at, zone)
    for key, address in readers_of(settings).items():
        due = _planned(key, moment, zone, known, now)
        if due is not None:
            yield replace(due, mail=address)


def days_of_hosts(settings: NightlyDigestSettings, known: Memories, now: datetime) -> Sequence[tuple[date, ZoneInfo]]:
    """Return the days whose hosts may be due, so that it is worth looking who they are; empty where nobody is."""
    if not settings.each_host:
        return ()
    found: dict[str, tuple[date, ZoneInfo]] = {}
    for name in sorted(settings.zones):
        zone = ZoneInfo(name)
        moment = latest_moment(now, settings.at, zone)
        together = _planned(hosts_key(name), moment, zone, known, now) is not None
        again = any(key.startswith(_HOST) and _again(memory, now) for key, memory in known.items())
        if together or again:
            found[name] = (day_of(moment, zone, settings), zone)
    return tuple(found.values())


def hosts_key(zone: str) -> str:
    """Return what the hosts in a time zone are remembered by together."""
    return f"{HOSTS} {zone}"


def due_hosts(
    settings: NightlyDigestSettings, known: Memories, now: datetime, hosts: Mapping[str, str]
) -> Iterator[PlannedDigest]:
    """Yield the digests of hosts that are due; `hosts` has their addresses by URI."""
    for host in sorted(hosts):
        zone = ZoneInfo(settings.zone_of(host))
        due = _planned(_HOST + last_segment(host), latest_moment(now, settings.at, zone), zone, known, now)
        if due is not None:
            yield replace(due, host=host, mail=hosts[host])


def remembered(
    known: Memories,
    digests: Mapping[PlannedDigest, bool],
    until: int,
    now: datetime,
    settings: NightlyDigestSettings,
) -> dict[str, ReaderMemory]:
    """Return what is remembered after digests were sent (True) or not (False)."""
    made = dict(known)
    for digest, sent in digests.items():
        told = until if digest.until is None else digest.until
        before = known.get(digest.key, ReaderMemory())
        made[digest.key] = (
            ReaderMemory(digest.moment, told)
            if sent
            else replace(before, failures=before.failures + 1, tried=now, trying=digest.moment, telling=told)
        )
    for _, zone in days_of_hosts(settings, known, now):
        made[hosts_key(zone.key)] = ReaderMemory(latest_moment(now, settings.at, zone), until)
    kept = readers_of(settings)
    return _bounded({key: memory for key, memory in made.items() if key in kept or _is_kept(key, memory, now)})


def _bounded(known: Memories) -> dict[str, ReaderMemory]:
    """Leave out hosts where it would be too much, first those who are owed nothing and whose digest is the oldest."""
    size = len(orjson.dumps(written(known)))
    kept = dict(known)
    hosts = [key for key in known if key.startswith(_HOST)]
    for key in sorted(hosts, key=lambda each: (known[each].failures > 0, _last(known[each]))):
        if size <= MAX_MEMORY_BYTES:
            break
        size -= len(orjson.dumps(written({key: kept.pop(key)}))) - 1  # one comma in place of two brackets
    return kept


def read_memories(state: Mapping[str, Any]) -> dict[str, ReaderMemory]:
    """Read what was remembered."""
    return {
        key: ReaderMemory(
            _time(each["moment"]),
            each["until"],
            each["failures"],
            _time(each["tried"]),
            _time(each.get("trying")),
            each.get("telling", 0),
        )
        for key, each in state.items()
    }


def written(known: Memories) -> dict[str, Any]:
    """Write what is remembered as JSON."""
    return {
        key: {name: _text(value) for name, value in asdict(memory).items() if name not in _OF_TRIES or memory.trying}
        for key, memory in known.items()
    }


def plan_as_json(digests: Sequence[PlannedDigest]) -> list[dict[str, Any]]:
    """Write a plan as JSON."""
    return [{name: _text(value) for name, value in asdict(digest).items()} for digest in digests]


def fitting(digests: Sequence[PlannedDigest]) -> Sequence[PlannedDigest]:
    """Return as many digests as a plan has room for, in their order."""
    left = MAX_PLAN_BYTES
    for number, digest in enumerate(digests):
        left -= len(orjson.dumps(plan_as_json([digest])))
        if left < 0:
            return digests[:number]
    return digests


def plan_from_json(plan: Sequence[Mapping[str, Any]]) -> list[PlannedDigest]:
    """Read a plan."""
    return [
        PlannedDigest(**{**each, **{name: datetime.fromisoformat(each[name]) for name in ("moment", "since")}})
        for each in plan
    ]


def _planned(key: str, moment: datetime, zone: ZoneInfo, known: Memories, now: datetime) -> PlannedDigest | None:
    memory = known.get(key, ReaderMemory())
    if memory.failures and not _again(memory, now):
        return None
    if memory.moment is None:
        late = now - moment >= FIRST_AT_MOST and not memory.failures
        due = None if late else PlannedDigest(key, moment, None, moment - timedelta(days=1), zone.key)
    elif moment <= memory.moment:
        return None
    else:
        due = PlannedDigest(key, moment, memory.until, memory.moment, zone.key)
    return due if due is None or memory.trying != moment else replace(due, until=memory.telling)


def _again(memory: ReaderMemory, now: datetime) -> bool:
    """Say whether it is time to try again for a reader who could not be reached."""
    if not memory.failures or memory.tried is None:
        return False
    pause: timedelta = min(FIRST_PAUSE * 2 ** min(memory.failures - 1, 10), LONGEST_PAUSE)
    return now >= memory.tried + pause


def _is_kept(key: str, memory: ReaderMemory, now: datetime) -> bool:
    return key.startswith((_HOST, HOSTS)) and now - _last(memory) < FORGOTTEN_AFTER


def _last(memory: ReaderMemory) -> datetime:
    """Return when there was last something about a reader."""
    return max(filter(None, (memory.moment, memory.tried)), default=_LONG_AGO)


def _text(value: object) -> object:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
