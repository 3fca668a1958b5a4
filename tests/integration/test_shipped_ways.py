"""Ways of shipped agents to receivers: a digest that is signed, and a question about attendance."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from standardwebhooks import Webhook

from slotwire.handlers.shipped.attendance import AskedAttendance, AttendedInvitee, AttendedMeeting
from slotwire.handlers.shipped.digest import rendered
from slotwire.handlers.shipped.digest.delivery import DigestToSend, DigestWays
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.errors import OutgoingFailed
from slotwire.ingest.foundation.mail import SmtpMailer
from slotwire.ingest.foundation.mail_settings import MailSettings
from slotwire.ingest.foundation.outgoing import Outgoing
from slotwire.ingest.foundation.outgoing_settings import OutgoingSettings
from tests.support.receiver import Receiver, answer, receiving
from tools.digest_picture import EXAMPLE

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on this machine."""
    async with receiving() as running:
        yield running


@pytest.fixture
async def outgoing() -> AsyncIterator[Outgoing]:
    """What asks it."""
    async with Outgoing(OutgoingSettings(allow_local=True), purpose="test") as made:
        yield made


def verified(receiver: Receiver, place: int = -1) -> dict[str, Any]:
    """Read what came as a receiver with the public library does."""
    post = receiver.received[place]
    found: dict[str, Any] = Webhook(SECRET).verify(post.body.decode(), post.headers)
    return found


async def test_a_digest_goes_to_a_receiver_signed(receiver: Receiver, outgoing: Outgoing, tmp_path: Path) -> None:
    """Text and HTML, verified by the public library; the same id each time; an answer but 2xx is a failure."""
    words = rendered(EXAMPLE)
    digest = DigestToSend(UUID(int=7), "ORG", date(2026, 12, 2), datetime.now(UTC), words)
    ways = DigestWays(SmtpMailer(MailSettings()), outgoing, tmp_path)
    url = f"http://127.0.0.1:{receiver.port}/in"
    for _ in range(2):
        await ways.to_receiver(digest, url, SECRET)
    assert [post.headers["webhook-id"] for post in receiver.received] == [str(UUID(int=7))] * 2
    data = verified(receiver)["data"]
    assert (data["organization"], data["day"], data["text"], data["html"]) == (
        "ORG",
        "2026-12-02",
        words.text,
        words.html,
    )
    receiver.answers(answer(500))
    with pytest.raises(OutgoingFailed, match="answered 500"):
        await ways.to_receiver(digest, url, SECRET)
    (tmp_path / "ORG").write_text("in the way")
    with pytest.raises(OutgoingFailed, match="cannot be written"):
        await ways.to_file(digest)


@pytest.mark.parametrize(
    ("said", "attended"),
    [
        (answer(200, b'{"attended": true}'), True),
        (answer(200, b'{"attended": false, "more": 1}'), False),
        (answer(200, b'{"attended": null}'), None),
        (answer(404), None),
        (answer(500), OutgoingFailed),
        (answer(200, b"{}"), OutgoingFailed),
        (answer(200, b"no"), OutgoingFailed),
        (answer(200, b'{"attended": "no"}'), OutgoingFailed),
        (answer(204), OutgoingFailed),
    ],
)
async def test_a_receiver_is_asked_who_came(said: bytes, attended: Any, receiver: Receiver, outgoing: Outgoing) -> None:
    """The question is signed and says who and when; only a clear answer is one, and 404 is that nobody knows."""
    receiver.answers(said)
    source = AskedAttendance(outgoing, f"http://127.0.0.1:{receiver.port}/who", SECRET, clock=SystemClock())
    end = datetime(2026, 12, 1, 10, 30, tzinfo=UTC)
    question = AttendedMeeting("ORG", "E", end - timedelta(minutes=30), end), AttendedInvitee("I", "zoe@example.com")
    if attended is OutgoingFailed:
        with pytest.raises(OutgoingFailed):
            await source.attended(*question)
    else:
        assert await source.attended(*question) is attended
    told = verified(receiver)
    assert told["type"] == "slotwire.attendance"
    assert told["data"] == {
        "organization": "ORG",
        "scheduled_event": "E",
        "start_time": "2026-12-01T10:00:00Z",
        "end_time": "2026-12-01T10:30:00Z",
        "invitee": "I",
        "email": "zoe@example.com",
        "name": None,
    }
