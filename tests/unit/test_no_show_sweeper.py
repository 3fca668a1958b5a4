"""`no-show-sweeper` in a trial: who is marked, whose mark is taken back, and what a source's file may look like."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from slotwire.handlers.agents.no_show_sweeper import agent
from slotwire.handlers.shipped import attendance
from slotwire.handlers.shipped.attendance import (
    AttendedInvitee,
    AttendedMeeting,
    FileAttendance,
    read_answer,
    rows_of_csv,
    what_follows,
)
from slotwire.handlers.shipped.settings import MemorySettings
from slotwire.handlers.testing import BookingSnapshot, RecordStatus, Trial, TrialClock
from slotwire.ingest.foundation.errors import RequestRefused
from slotwire.ingest.foundation.outgoing import Outgoing
from slotwire.ingest.foundation.outgoing_settings import OutgoingSettings

EVENT = "https://api.calendly.com/scheduled_events/E"
INVITEE = f"{EVENT}/invitees/I"
END = datetime(2026, 12, 1, 10, 30, tzinfo=UTC)
MEETING = AttendedMeeting("ORG", EVENT, END - timedelta(minutes=30), END)
ZOE = AttendedInvitee(INVITEE, "Zoe@Example.com ", "Zoë")


@pytest.mark.parametrize(
    ("attended", "no_show", "memory", "follows"),
    [
        (None, False, None, None),
        (None, True, "asked", None),
        (False, False, None, "mark_no_show"),
        (
            False,
            True,
            None,
            "mark_no_show",
        ),  # a run that was killed after the mark, or somebody else's: the receipt says
        (False, False, "asked", None),  # somebody took it back
        (False, True, "asked", None),
        (False, False, "cleared", None),
        (False, False, "left", None),
        (True, True, "asked", "clear_no_show"),
        (True, True, None, "clear_no_show"),  # `control` refuses it where the mark is not ours
        (True, True, "left", None),
        (True, False, "asked", None),
        (True, False, None, None),
    ],
)
def test_what_follows_from_an_answer(attended: bool | None, no_show: bool, memory: Any, follows: str | None) -> None:
    """Unknown marks nobody; nobody is marked twice; only what may be ours is asked to be cleared."""
    assert what_follows(attended, no_show=no_show, memory=memory) == follows


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (f"invitee,attended\n{INVITEE},no\n", False),
        (f"\ufeffinvitee,attended\r\n{INVITEE}, YES \r\n", True),
        (f"scheduled_event,email,attended\n{EVENT},zoe@example.com,0\n", False),
        (f"scheduled_event,email,attended\n{EVENT}2,zoe@example.com,0\n", None),
        ("scheduled_event,email,attended\n,zoe@example.com,0\n", None),
        (f"invitee,attended\n{INVITEE},no\n{INVITEE},yes\n", True),  # the last row counts
        (f"invitee,attended\n{INVITEE},yes\n{INVITEE},no", True),  # a line that has not ended does not
        (f"invitee,attended\n{INVITEE},maybe\n", None),
        (f"invitee,attended\n{INVITEE}\n", None),
        (f"invitee,came\n{INVITEE},no\n", None),
        ('invitee,attended\n"unclosed\n', None),
        ("", None),
        ("\x00\xff", None),
    ],
)
async def test_a_file_is_read_with_care(content: str, answer: bool | None, tmp_path: Path) -> None:
    """Rows by invitee, or by meeting and address; what cannot be read tells nothing."""
    source = FileAttendance(tmp_path)
    assert await source.attended(MEETING, ZOE) is None, "there is no file yet"
    (tmp_path / "ORG.csv").write_text(content, encoding="utf-8", newline="")
    assert await source.attended(MEETING, ZOE) is answer


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (f'[{{"invitee": "{INVITEE}", "attended": false}}]', False),
        (f'[{{"invitee": "{INVITEE}", "attended": null}}]', None),
        (f'[{{"invitee": "{INVITEE}", "attended": 1}}]', True),
        (f'{{"invitee": "{INVITEE}", "attended": false}}', None),
        (f'[{{"invitee": "{INVITEE}", "attended": fal', None),
    ],
)
async def test_a_json_file_is_read_whole_or_not_at_all(content: str, answer: bool | None, tmp_path: Path) -> None:
    """A list of objects; half a file tells nothing, and neither does another organization's, or one too long."""
    (tmp_path / "ORG.json").write_text(content)
    assert await FileAttendance(tmp_path).attended(MEETING, ZOE) is answer
    (tmp_path / "ORG.json").rename(tmp_path / "OTHER.json")
    assert await FileAttendance(tmp_path).attended(MEETING, ZOE) is None


async def test_files_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit a file is read, past it it tells nothing; it is read again when it changes; few are kept."""
    assert (attendance.MAX_FILE_BYTES, attendance.MAX_FILES_KEPT) == (16_777_216, 100)
    source, file, text = FileAttendance(tmp_path), tmp_path / "ORG.csv", f"invitee,attended\n{INVITEE},no\n"
    monkeypatch.setattr(attendance, "MAX_FILE_BYTES", len(text))
    monkeypatch.setattr(attendance, "MAX_FILES_KEPT", 1)
    file.write_text(text)
    assert await source.attended(MEETING, ZOE) is False
    file.write_text(f"{text}\n")
    assert await source.attended(MEETING, ZOE) is None
    for org in ("ORG", "OTHER"):
        (tmp_path / f"{org}.csv").write_text(text)
        assert await source.attended(replace(MEETING, organization=org), ZOE) is False
    assert len(source._read) == 1


def test_answers_are_yes_no_or_nothing() -> None:
    """However they are written; anything else is not known."""
    assert [read_answer(each) for each in (True, "TRUE", "1", 1)] == [True] * 4
    assert [read_answer(each) for each in (False, " no ", "0", 0)] == [False] * 4
    assert [read_answer(each) for each in (None, "", "absent", 2, [0], {1})] == [None] * 6
    assert rows_of_csv("attended\nyes\n") == [{"attended": "yes"}]


class Door:
    """A source that answers what a test says."""

    def __init__(self, *answers: bool | None) -> None:
        self.answers = list(answers)

    async def attended(self, meeting: AttendedMeeting, invitee: AttendedInvitee) -> bool | None:
        """Say the next answer."""
        assert (meeting.scheduled_event, invitee.uri) == (EVENT, INVITEE)
        return self.answers.pop(0)


def booking(*, no_show: bool = False) -> BookingSnapshot:
    """The booking whose meeting is over."""
    return BookingSnapshot(
        INVITEE, "active", no_show=no_show, scheduled_event=EVENT, start_time=MEETING.start_time, end_time=END
    )


@pytest.fixture
def trial() -> Trial:
    """A trial of the agent, with settings."""
    made = Trial(agent, clock=TrialClock(END + timedelta(minutes=15)), connection=object())
    settings = MemorySettings({("no-show-sweeper", "TRIAL"): {"source": "file"}})
    agent.install(settings, Outgoing(OutgoingSettings(), purpose="test"))
    made.calendly.answers = {"mark_no_show": {"state": "done"}, "clear_no_show": {"state": "done"}}
    return made


async def looked(trial: Trial, schedule: str, *, no_show: bool = False) -> RecordStatus:
    """A look at the booking as it is now."""
    now = booking(no_show=no_show)
    trial.chains.known["TRIAL", INVITEE] = (now,)
    return (await trial.fire(schedule, booking=now)).status


async def test_a_mark_is_set_once_and_taken_back_when_corrected(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absent, then here after all: marked once, cleared once; and then nothing more."""
    monkeypatch.setattr(agent, "attendance", Door(False, True, False))
    assert await looked(trial, "first-look") is RecordStatus.DONE
    assert await looked(trial, "second-look", no_show=True) is RecordStatus.DONE
    assert await looked(trial, "last-look") is RecordStatus.DONE
    assert [action["verb"] for _, action in trial.calendly.acted] == ["mark_no_show", "clear_no_show"]


async def test_a_mark_of_somebody_else_is_left(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was there before ours, so `control` refuses to clear it: asked once, and then left."""
    monkeypatch.setattr(agent, "attendance", Door(False, True, True))
    trial.calendly.answers["mark_no_show"] = {"state": "done_by_other"}
    trial.calendly.answers["clear_no_show"] = RequestRefused("not yours", code="no_own_mark")
    for schedule in ("first-look", "second-look", "last-look"):
        assert await looked(trial, schedule, no_show=True) is RecordStatus.DONE
    assert [action["verb"] for _, action in trial.calendly.acted] == ["mark_no_show", "clear_no_show"]


async def test_control_decides_whose_mark_it_is(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a memory of our own, `control` is asked, and its refusal is remembered."""
    monkeypatch.setattr(agent, "attendance", Door(True, True))
    trial.calendly.answers["clear_no_show"] = RequestRefused("not yours", code="no_own_mark")
    for schedule in ("first-look", "second-look"):
        assert await looked(trial, schedule, no_show=True) is RecordStatus.DONE
    assert [action["verb"] for _, action in trial.calendly.acted] == ["clear_no_show"]


async def test_nothing_follows_from_nothing(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not known, a dry run, no settings: nobody is marked. An action that is not over is asked for again."""
    monkeypatch.setattr(agent, "attendance", Door(None, False, False, False))
    assert await looked(trial, "first-look") is RecordStatus.DONE
    settings = MemorySettings({("no-show-sweeper", "TRIAL"): {"dry_run": True}})
    agent.install(settings, Outgoing(OutgoingSettings(), purpose="test"))
    assert await looked(trial, "second-look") is RecordStatus.DONE
    assert not trial.calendly.acted
    settings.values["no-show-sweeper", "TRIAL"] = {}
    agent.install(settings, Outgoing(OutgoingSettings(), purpose="test"))
    answers = iter([{"state": "open"}, {"state": "done"}])
    monkeypatch.setattr(trial.calendly, "_answer", lambda _: next(answers))
    assert await looked(trial, "last-look") is RecordStatus.DONE
    assert trial.pauses == [30.0]
    settings.values.clear()
    agent.install(settings, Outgoing(OutgoingSettings(), purpose="test"))
    assert await looked(Trial(agent), "first-look") is RecordStatus.DONE


async def test_without_a_folder_it_waits_for_a_person() -> None:
    """Files without a folder: the agent is not ready, and says what to set."""
    with pytest.raises(Exception, match="no folder is set"):
        agent.source(agent.form(), Any)  # type: ignore[arg-type]  # asked for files only
