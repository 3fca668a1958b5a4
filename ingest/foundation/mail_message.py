"""A mail as a message: our own headers, and two forms of one text. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Protocol
from uuid import UUID

MAX_SUBJECT = 200
_POLICY = SMTP.clone(cte_type="7bit")
"""Lines end as SMTP has them, and every octet is ASCII: nothing depends on what a server on the way can take."""


@dataclass(frozen=True, slots=True)
class Mail:
    """What is sent.

    Attributes:
        id: of the mail: a copy has the same one, so that readers need not see it twice.
        to: one address.
        subject: one line of our own words; nothing that a stranger typed.
        text: for readers without HTML.
        html: a whole document.
        date: when it was made, with a zone.
    """

    id: UUID
    to: str
    subject: str
    text: str
    html: str
    date: datetime


class SendsMail(Protocol):
    """Sends mail: by SMTP, or into a test's memory."""

    async def send(self, mail: Mail) -> None:
        """Hand a mail over.

        Raises:
            OutgoingFailed: it was not handed over, or nobody knows.
        """
        ...


def message_of(mail: Mail, sender: str) -> EmailMessage:
    """Write a mail as a message. Pure.

    Raises:
        ValueError: the address of the reader, or the subject, is none: a line end in it would begin another header.
    """
    if not mail.subject.isprintable() or len(mail.subject) > MAX_SUBJECT:
        raise ValueError("the subject is not one short line")
    message = EmailMessage(policy=_POLICY)
    message["Message-ID"] = f"<{mail.id}@{Address(addr_spec=sender).domain}>"
    message["Date"] = format_datetime(mail.date)
    message["From"] = Address("Slotwire", addr_spec=sender)
    message["To"] = address_of(mail.to)
    message["Subject"] = mail.subject
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's out-of-office answers it
    message.set_content(mail.text, charset="utf-8", cte="base64")
    message.add_alternative(mail.html, subtype="html", charset="utf-8", cte="base64")
    return message


def address_of(text: str) -> Address:
    """Read one mail address.

    Raises:
        ValueError: it is none.
    """
    if not text.isprintable() or len(text) > 320 or text.count("@") != 1 or set(text) & set(' ,;:<>()[]"\\'):
        raise ValueError("this is no mail address")
    try:
        found = Address(addr_spec=text)
        text.encode("ascii")
    except Exception:  # noqa: BLE001 - the parser of the standard library raises what it comes upon
        raise ValueError("this is no mail address") from None
    if not found.username or not found.domain:
        raise ValueError("this is no mail address")
    return found
