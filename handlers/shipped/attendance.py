"""Who came to a meeting: sources of attendance for `no_show_sweeper`, and what is done about an answer.

Calendly does not know who came. A source does: a video service, a door, a person with a list. It answers True, False,
or None where it does not know, and None changes nothing.

    class Door:
        async def attended(self, meeting: AttendedMeeting, invitee: AttendedInvitee) -> bool | None: ...
"""

from __future__ import annotations

import asyncio
import csv
import io
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, Protocol
from uuid import NAMESPACE_URL, uuid5

import orjson

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import OutgoingFailed
from slotwire.ingest.foundation.outgoing import Outgoing
from slotwire.ingest.foundation.outgoing.signing import standard_webhook_headers, webhook_secret
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.schemas.codec import format_time

QUESTION = "slotwire.attendance"
"""What a receiver that is asked reads in `type`."""
MAX_FILE_BYTES = 16_777_216
"""Of a file of attendance; a longer one is not read."""
MAX_FILES_KEPT = 100
"""Files whose rows are kept in memory, until they change."""
AttendanceRows = dict[tuple[str, ...], tuple[int, bool | None]]
"""What rows say, with their numbers, by invitee, or by scheduled event and address."""
_YES, _NO = frozenset({"yes", "true", "1"}), frozenset({"no", "false", "0"})
_log = get_logger("attendance")


@dataclass(frozen=True, slots=True)
class AttendedMeeting:
    """The meeting that is asked about.

    Attributes:
        organization: the identifier of the organization.
        scheduled_event: its URI.
        start_time: when it started.
        end_time: when it ended.
    """

    organization: str
    scheduled_event: str
    start_time: datetime
    end_time: datetime


@dataclass(frozen=True, slots=True)
class AttendedInvitee:
    """The invitee that is asked about.

    Attributes:
        uri: identifies the invitee.
        email: as it was typed: a stranger's text; None where it is not known any more.
        name: likewise.
    """

    uri: str
    email: str | None = None
    name: str | None = None


class Attendance(Protocol):
    """A source of attendance."""

    async def attended(self, meeting: AttendedMeeting, invitee: AttendedInvitee) -> bool | None:
        """Say whether an invitee came: True, False, or None where that is not known, or not yet.

        An exception means that the source is away: it is asked again.
        """
        ...


class FileAttendance:
    """Attendance in files that another system writes, one for each organization: `ORG.csv` or `ORG.json` in a folder.

    Of several rows about an invitee the last one counts. The last line of a CSV file counts only once it has ended, so
    that a file which is being written to is never misread; write a JSON file beside, and rename it. A file that is not
    there, is too long or cannot be read tells nothing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: OrderedDict[Path, tuple[tuple[int, int], AttendanceRows]] = OrderedDict()

    async def attended(self, meeting: AttendedMeeting, invitee: AttendedInvitee) -> bool | None:
        """Look it up."""
        rows = await asyncio.to_thread(self._rows, meeting.organization)
        return looked_up(rows, meeting, invitee)

    def _rows(self, organization: str) -> AttendanceRows:
        for ending, read in ((".csv", rows_of_csv), (".json", rows_of_json)):
            path = self._folder / f"{organization}{ending}"
            try:
                with path.open("rb") as file:
                    found = os.fstat(file.fileno())
                    version = (found.st_mtime_ns, found.st_size)
                    known = self._read.get(path)
                    if known is not None and known[0] == version:
                        return known[1]
                    content = file.read(MAX_FILE_BYTES + 1)
            except FileNotFoundError:
                continue
            except OSError as error:
                _log.warning("attendance_unreadable", organization=organization, reason=type(error).__name__)
                return {}
            self._read[path] = version, self._parsed(organization, content, read)
            self._read.move_to_end(path)
            if len(self._read) > MAX_FILES_KEPT:
                self._read.popitem(last=False)
            return self._read[path][1]
        _log.info("no_attendance_file", organization=organization)
        return {}

    @staticmethod
    def _parsed(organization: str, content: bytes, read: Callable[[str], list[Mapping[str, Any]]]) -> AttendanceRows:
        if len(content) <= MAX_FILE_BYTES:
            with suppress(ValueError):
                return by_invitee(read(content.decode("utf-8-sig")))
        _log.warning("attendance_unreadable", organization=organization, reason="its form, or its length")
        return {}


def rows_of_csv(text: str) -> list[Mapping[str, Any]]:
    """Read a CSV file with a head. Pure.

    Raises:
        ValueError: it has no column `attended`.
    """
    ended = text[: text.rfind("\n") + 1]
    try:
        reader = csv.DictReader(io.StringIO(ended, newline=""), restkey="", strict=True)
        if reader.fieldnames is not None and "attended" not in reader.fieldnames:
            raise ValueError("there is no column attended")
        return list(reader)
    except csv.Error as error:
        raise ValueError(str(error)) from error


def rows_of_json(text: str) -> list[Mapping[str, Any]]:
    """Read a JSON file: a list of objects. Pure.

    Raises:
        ValueError: it is something else.
    """
    found = orjson.loads(text)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise ValueError("it is no list of objects")
    return found


def by_invitee(rows: Iterable[Mapping[str, Any]]) -> AttendanceRows:
    """Put rows by whom they are about; of several the last one stays. Pure."""
    found: AttendanceRows = {}
    for number, row in enumerate(rows):
        invitee, event, email = (_text(row.get(name)) for name in ("invitee", "scheduled_event", "email"))
        if key := (invitee,) if invitee else (event, email.casefold()) if event and email else None:
            found[key] = number, read_answer(row.get("attended"))
    return found


def looked_up(rows: AttendanceRows, meeting: AttendedMeeting, invitee: AttendedInvitee) -> bool | None:
    """Return what the last row about an invitee says. Pure."""
    keys = ((invitee.uri,), (meeting.scheduled_event, (invitee.email or "").strip().casefold()))
    return max((rows[key] for key in keys if key in rows), key=lambda row: row[0], default=(0, None))[1]


def read_answer(value: object) -> bool | None:
    """Read yes or no, however it is written; anything else is None. Pure."""
    if isinstance(value, bool) or value is None:
        return value
    text = value.strip().casefold() if isinstance(value, str) else str(value)
    return True if text in _YES else False if text in _NO else None


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


class AskedAttendance:
    """Attendance that a receiver knows: it is asked with a POST, signed as Standard Webhooks has it.

    It answers `{"attended": true}`, false or null. 404 is null, too; any other answer means that it is away.
    """

    def __init__(self, outgoing: Outgoing, url: str, secret: str, *, clock: Clock) -> None:
        self._outgoing = outgoing
        self._url = url
        self._secret = secret
        self._clock = clock

    async def attended(self, meeting: AttendedMeeting, invitee: AttendedInvitee) -> bool | None:
        """Ask.

        Raises:
            OutgoingRefused: the address may not be connected to.
            OutgoingFailed: the receiver is away, or answers something else.
        """
        now = self._clock.now()
        about = {
            "organization": meeting.organization,
            "scheduled_event": meeting.scheduled_event,
            "start_time": format_time(meeting.start_time),
            "end_time": format_time(meeting.end_time),
            "invitee": invitee.uri,
            "email": invitee.email,
            "name": invitee.name,
        }
        body = orjson.dumps({"type": QUESTION, "timestamp": format_time(now), "data": about})
        asked = str(uuid5(NAMESPACE_URL, f"{QUESTION}\n{invitee.uri}\n{format_time(now)}"))
        signed = standard_webhook_headers(webhook_secret(self._secret), asked, now, body)
        answer = await self._outgoing.post(self._url, body, {"Content-Type": "application/json", **signed})
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        try:
            said = orjson.loads(answer.body) if answer.is_success else None
        except orjson.JSONDecodeError:
            said = None
        if not isinstance(said, dict) or not isinstance(found := said.get("attended", ""), bool | None):
            raise OutgoingFailed(f"the source of attendance answered {answer.status}", reason="status")
        return found


MarkMemory = Literal["asked", "cleared", "left"]
"""What was done about an invitee: a mark asked for, our mark taken back, or another's left where it is."""


def what_follows(
    attended: bool | None, *, no_show: bool, memory: MarkMemory | None
) -> Literal["mark_no_show", "clear_no_show"] | None:
    """Say what is done about an answer. Pure.

    Nobody is marked whose attendance is not known, or about whom something was done before: if the mark is gone,
    somebody took it back, and they know better. A mark is asked for where there is one, too: it may be that of a run of
    ours that did not come to its end. Whose it is, receipts say: `control` lets us take back none but our own.
    """
    if attended is False and memory is None:
        return "mark_no_show"
    if attended is True and no_show and memory != "left":
        return "clear_no_show"
    return None
