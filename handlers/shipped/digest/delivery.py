"""Takes a digest to its reader: as a mail, to a receiver, or into a file. At least once, always under the same id."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from uuid import UUID

import orjson

from slotwire.handlers.shipped.digest.facts import RenderedDigest
from slotwire.ingest.foundation.errors import ConfigurationError, OutgoingFailed
from slotwire.ingest.foundation.mail_message import Mail, SendsMail
from slotwire.ingest.foundation.outgoing import Outgoing
from slotwire.ingest.foundation.outgoing.signing import standard_webhook_headers, webhook_secret
from slotwire.schemas.codec import format_time

TYPE = "slotwire.digest"
"""What a receiver reads in `type`."""
_OUTPUT_FOLDER = "SLOTWIRE_AGENTS__OUTPUT_FOLDER"


@dataclass(frozen=True, slots=True)
class DigestToSend:
    """A digest in words, and which one it is.

    Attributes:
        id: the same however often it is sent.
        organization: its identifier.
        day: whose meetings it lists.
        made_at: when it was made.
        words: what it says.
    """

    id: UUID
    organization: str
    day: date
    made_at: datetime
    words: RenderedDigest


@dataclass(frozen=True)
class DigestWays:
    """The ways to readers.

    Attributes:
        mailer: sends mail.
        outgoing: asks receivers.
        folder: where files go; None where there is none.
    """

    mailer: SendsMail = field(repr=False)
    outgoing: Outgoing = field(repr=False)
    folder: Path | None = None

    async def to_mail(self, digest: DigestToSend, address: str) -> None:
        """Send it to one address.

        Raises:
            OutgoingFailed: it was not handed over, or nobody knows.
            ConfigurationError: no mail server is set.
        """
        words = digest.words
        await self.mailer.send(Mail(digest.id, address, words.subject, words.text, words.html, digest.made_at))

    async def to_receiver(self, digest: DigestToSend, url: str, secret: str) -> None:
        """Send it to a receiver, signed as Standard Webhooks has it.

        Raises:
            OutgoingRefused: the address may not be connected to.
            OutgoingFailed: the receiver did not take it, or nobody knows.
        """
        words = digest.words
        body = orjson.dumps(
            {
                "type": TYPE,
                "timestamp": format_time(digest.made_at),
                "data": {
                    "organization": digest.organization,
                    "day": digest.day.isoformat(),
                    "subject": words.subject,
                    "text": words.text,
                    "html": words.html,
                },
            }
        )
        signed = standard_webhook_headers(webhook_secret(secret), str(digest.id), digest.made_at, body)
        answer = await self.outgoing.post(url, body, {"content-type": "application/json", **signed})
        if not answer.is_success:
            raise OutgoingFailed(f"the receiver answered {answer.status}", reason="status")

    async def to_file(self, digest: DigestToSend) -> None:
        """Write it into the folder, whole or not at all; the same day's again in place of itself.

        Raises:
            OutgoingFailed: the folder cannot be written to.
            ConfigurationError: no folder is set.
        """
        if self.folder is None:
            raise ConfigurationError(
                "no folder is set for files of agents", remedy=f"Set {_OUTPUT_FOLDER} for the process of the agent."
            )
        try:
            await asyncio.to_thread(_write, self.folder, digest)
        except OSError as error:
            raise OutgoingFailed(
                f"the file cannot be written: {type(error).__name__}",
                reason="file",
                remedy=f"Let the agent's process write to {_OUTPUT_FOLDER}.",
            ) from None


def _write(folder: Path, digest: DigestToSend) -> None:
    place = folder / digest.organization
    place.mkdir(mode=0o750, parents=True, exist_ok=True)
    for ending, text in (("txt", digest.words.text), ("html", digest.words.html)):
        unfinished = place / f".digest-{digest.id}.{ending}"
        with os.fdopen(
            os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640), "w", encoding="utf-8"
        ) as file:
            file.write(text)
        unfinished.replace(place / f"digest-{digest.day.isoformat()}.{ending}")
