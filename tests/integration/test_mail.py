"""Mail by SMTP: over TLS, under one Message-ID, and what is said when a server does not take it."""

from __future__ import annotations

import asyncio
import email
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.policy import SMTP as SMTP_POLICY
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from pydantic import SecretStr, ValidationError

from slotwire.ingest.foundation.errors import ConfigurationError, OutgoingFailed
from slotwire.ingest.foundation.mail import SmtpMailer
from slotwire.ingest.foundation.mail_message import Mail, address_of, message_of
from slotwire.ingest.foundation.mail_settings import MailSettings
from tests.support.certificates import Authority

MAIL = Mail(
    UUID(int=7),
    "ops@example.com",
    "2 meetings on Wednesday",
    "Bookings for Zoë\n",
    "<p>Bookings for Zoë</p>\n",
    datetime(2026, 12, 1, 17, tzinfo=UTC),
)
PASSWORD = "correct horse"


@dataclass
class MailServer:
    """A server that takes mail, and what it got.

    Attributes:
        got: each message with the address it was for.
        refused: addresses that it takes no mail for.
        hangs_up: whether it ends the connection once it has the message, without an answer.
    """

    got: list[tuple[str, Any]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    hangs_up: bool = False

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a reader, or not; the answer repeats the address, as servers do."""
        del server, session, options
        if address in self.refused:
            return f"550 no mailbox {address}"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - as above
        """Take a message."""
        del session
        assert isinstance(envelope.content, bytes)
        self.got.append((envelope.rcpt_tos[0], email.message_from_bytes(envelope.content, policy=SMTP_POLICY)))
        if self.hangs_up:
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return "250 OK"


def known(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    """Let one person in."""
    del server, session, envelope, mechanism
    return AuthResult(handled=False, success=(data.login, data.password) == (b"slotwire", PASSWORD.encode()))


class Connection(SMTP):
    """A connection whose socket can be closed whatever became of its TLS."""

    socket: asyncio.Transport
    lost: asyncio.Event

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket: TLS is put over it later."""
        if not self.transport:
            assert isinstance(transport, asyncio.Transport)
            self.socket = transport
            self.lost = asyncio.Event()
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Note it."""
        super().connection_lost(error)
        self.lost.set()


@asynccontextmanager
async def serving(server: MailServer, *, tls: Any = None, first: bool = False) -> AsyncIterator[int]:
    """Serve while the block runs; yields the port."""
    connections: list[Connection] = []

    def protocol() -> SMTP:
        inner = None if first else tls
        made = Connection(
            server,
            hostname="mail.example.com",
            tls_context=inner,
            require_starttls=inner is not None,
            authenticator=known,
            auth_require_tls=not first,
        )
        connections.append(made)
        return made

    running = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, ssl=tls if first else None)
    try:
        yield running.sockets[0].getsockname()[1]
    finally:
        running.close()
        for each in connections:
            # aiosmtpd closes twice after QUIT, and then Python 3.11.2 cannot abort TLS; it ends by itself.
            if not each.socket.is_closing():
                each.socket.abort()
            if first:
                await each.lost.wait()
        await running.wait_closed()


@dataclass(frozen=True)
class Trust:
    """A server's context of TLS, and the file of who signed its certificate."""

    server: ssl.SSLContext
    ca_file: str


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    """A certificate for this machine."""
    authority = Authority()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("mail", host="localhost").write(tmp_path, "mail"))
    ca = tmp_path / "ca.crt"
    ca.write_text(authority.pem, encoding="ascii")
    return Trust(context, str(ca))


def mailer(port: int, **more: Any) -> SmtpMailer:
    """A mailer for a server on this machine."""
    given = {"host": "localhost", "port": port, "sender": "slotwire@example.com", "timeout_seconds": 5, **more}
    return SmtpMailer(MailSettings.model_validate(given))


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_mail_goes_out_over_tls(security: str, trust: Trust) -> None:
    """After a login, as text and as HTML; a copy has the same Message-ID."""
    server = MailServer()
    login = {"username": "slotwire", "password": SecretStr(PASSWORD)} if security == "starttls" else {}
    async with serving(server, tls=trust.server, first=security == "tls") as port:
        for _ in range(2):
            await mailer(port, security=security, ca_file=trust.ca_file, **login).send(MAIL)
    (to, message), (_, copy) = server.got
    assert (to, message["To"], message["From"]) == (
        "ops@example.com",
        "ops@example.com",
        "Slotwire <slotwire@example.com>",
    )
    assert message["Message-ID"] == copy["Message-ID"] == f"<{MAIL.id}@example.com>"
    assert message["Subject"] == MAIL.subject
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert message.get_body().get_content().replace("\r\n", "\n") == MAIL.html


async def test_what_a_server_refuses_is_said_without_an_address(trust: Trust) -> None:
    """Reader, login, certificate, no TLS, nobody there, a lost answer: each has its reason; none names the reader."""
    server = MailServer(refused={MAIL.to})
    said: dict[str, str] = {}

    async def failed(port: int, **more: Any) -> None:
        with pytest.raises(OutgoingFailed) as caught:
            await mailer(port, **{"ca_file": trust.ca_file, **more}).send(MAIL)
        said[caught.value.reason] = f"{caught.value} {caught.value.remedy}"

    async with serving(server, tls=trust.server) as port:
        await failed(port)
        await failed(port, username="slotwire", password=SecretStr("wrong"))
        await failed(port, ca_file=None)
        server.refused.clear()
        server.hangs_up = True
        await failed(port)
    assert len(server.got) == 1, "it may have been taken: it is sent again under the same id"
    assert set(said) == {"recipient", "login", "tls_error", "unreachable"}
    async with serving(MailServer()) as port:
        await failed(port)
    assert "refuses the mail" in said["refused"]
    await failed(port)
    assert "cannot be reached" in said["unreachable"]
    assert not [text for text in said.values() if "ops" in text or "@" in text]

    came, gone = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        gone.set()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server_without_words:
        while not came.is_set():  # on a busy machine it may not even connect in that time
            await failed(server_without_words.sockets[0].getsockname()[1], timeout_seconds=0.5)
        await gone.wait()
    assert "in time" in said["timeout"]


async def test_without_a_server_a_person_is_told() -> None:
    """No server, or no CA: what to set is named."""
    with pytest.raises(ConfigurationError, match="no mail server") as caught:
        await SmtpMailer(MailSettings()).send(MAIL)
    assert "SLOTWIRE_MAIL__HOST" in caught.value.remedy
    with pytest.raises(ConfigurationError, match="CA cannot be read"):
        await mailer(1, ca_file="/nowhere").send(MAIL)


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "mail.example.com"},
        {"host": "mail.example.com", "sender": "a@example.com", "security": "none"},
        {"host": "localhost", "sender": "a@example.com", "username": "a"},
        {"host": "localhost", "sender": "a@example.com\nBcc: b@example.com"},
    ],
)
def test_settings_of_mail_that_cannot_work_are_refused(wrong: dict[str, str]) -> None:
    """A server without a sender, far and without TLS, half a login, a header in the sender."""
    with pytest.raises(ValidationError):
        MailSettings.model_validate(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "@",
        "a@",
        "@b",
        "a@b@c",
        "a b@c",
        "a@b\r\nBcc: c@d",
        "<a@b>",
        "a@b,c@d",
        "ä@example.com",
        f"{'a' * 320}@b",
    ],
)
def test_what_is_no_address_goes_nowhere(text: str) -> None:
    """Neither as a reader nor into a header."""
    with pytest.raises(ValueError, match="no mail address"):
        address_of(text)
    with pytest.raises(ValueError, match="no mail address"):
        message_of(replace(MAIL, to=text), "slotwire@example.com")
    with pytest.raises(ValueError, match="not one short line"):
        message_of(replace(MAIL, subject=f"x\n{text}"), "slotwire@example.com")
