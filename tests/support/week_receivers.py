"""Receivers of a week's agents: a webhook's, a mail server and a source of attendance, which fail as drawn."""

from __future__ import annotations

import asyncio
import email
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.policy import SMTP as SMTP_POLICY
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session
from standardwebhooks import Webhook

from slotwire.ingest.simulator.draws import Draws
from tests.support.receiver import TAKEN, ReceivedPost, Receiver, answer, receiving

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
Interrupts = Callable[[str], Awaitable[None]]
"""Called with what was just taken, before it is answered: it may kill who waits for the answer."""


@dataclass(frozen=True)
class TakenPost:
    """A message that a receiver has by now, whatever it answered.

    Attributes:
        id: of the message.
        body: what it says, parsed.
    """

    id: str
    body: dict[str, Any]


@dataclass(frozen=True)
class TakenMail:
    """A mail that the server has by now: its id, its one reader, its subject and its plain text."""

    id: str
    to: str
    subject: str
    text: str


async def _nothing(_: str) -> None:
    """Kill nobody."""


@dataclass
class WeekReceivers:
    """What agents reach beside Calendly.

    Attributes:
        failing: the share of what each of them is asked that ends in an error, or in no answer.
        came: who came to their meeting, by the invitee's name; nothing is known of others.
        told: what `notify` told, in its order.
        posted: the digests that came by webhook.
        mails: the digests that came by mail.
        interrupts: see `Interrupts`; it is called once and then forgotten, with `notify`, `digest` or `mail`.
    """

    failing: Mapping[str, float]
    came: dict[str, bool] = field(default_factory=dict)
    told: list[TakenPost] = field(default_factory=list)
    posted: list[TakenPost] = field(default_factory=list)
    mails: list[TakenMail] = field(default_factory=list)
    interrupts: Interrupts = _nothing
    interrupted: set[str] = field(default_factory=set)
    webhooks: Receiver = field(default_factory=Receiver)
    mail_port: int = 0
    _interrupting: list[asyncio.Future[None]] = field(default_factory=list)
    _asked: Counter[str] = field(default_factory=Counter)

    @property
    def url(self) -> str:
        """Where they listen."""
        return f"http://127.0.0.1:{self.webhooks.port}"

    async def reply(self, post: ReceivedPost, _: asyncio.StreamWriter) -> bytes:
        """Take a message, or not; answer, or not."""
        ident, way, body = post.headers["webhook-id"], post.path.strip("/"), json.loads(post.body)
        _verified(post)
        fault = self._fault(way, body["data"]["invitee"] if way == "attendance" else ident)
        if fault == "before":
            return answer(500)
        if fault == "limited":
            return answer(429, b"", "Retry-After: 1")
        said = await self._take(way, ident, body)
        if fault == "silent":
            await asyncio.Event().wait()
        return b"" if fault == "lost" else said

    async def _take(self, way: str, ident: str, body: dict[str, Any]) -> bytes:
        if way == "attendance":
            known = json.dumps({"attended": self.came.get(body["data"]["name"])})
            return answer(200, known.encode())
        (self.told if way == "notify" else self.posted).append(TakenPost(ident, body))
        await self._interrupt(way)
        return TAKEN

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """Take a mail, or not; answer, or not."""
        del session
        assert isinstance(envelope.content, bytes)
        message: Any = email.message_from_bytes(envelope.content, policy=SMTP_POLICY)
        text = message.get_body(("plain",)).get_content().replace("\r\n", "\n")
        mail = TakenMail(message["Message-ID"], envelope.rcpt_tos[0], message["Subject"], text)
        fault = self._fault("mail", mail.id)
        if fault in {"before", "limited"}:
            return "451 not now"
        self.mails.append(mail)
        await self._interrupt("mail")
        if fault in {"lost", "silent"}:
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return "250 OK"

    async def _interrupt(self, way: str) -> None:
        if way not in self.interrupted:
            self.interrupted.add(way)
            # The connection ends with who is killed, and whatever waits for it.
            task = asyncio.ensure_future(self.interrupts(way))
            self._interrupting.append(task)
            await asyncio.shield(task)

    def _fault(self, way: str, ident: str) -> str:
        """Draw what goes wrong; nothing the third time that something comes."""
        self._asked[ident] += 1
        draws = Draws("week", way, ident, self._asked[ident])
        if self._asked[ident] > 2 or not draws.chance(self.failing.get(way, 0.0)):
            return ""
        return draws.weighted((("before", 3), ("limited", 2), ("lost", 4), ("silent", 1)))


def _verified(post: ReceivedPost) -> None:
    """Check the signature by the public library, at the time that the post says: the week's clock is ahead."""
    at = datetime.fromtimestamp(int(post.headers["webhook-timestamp"]), UTC)
    made = Webhook(SECRET).sign(post.headers["webhook-id"], at, post.body.decode())
    assert made in post.headers["webhook-signature"].split(" ")


class _Connection(SMTP):
    """A connection that can be closed whatever became of it."""

    socket: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        assert isinstance(transport, asyncio.Transport)
        self.socket = transport
        super().connection_made(transport)


@asynccontextmanager
async def week_receivers(failing: Mapping[str, float]) -> AsyncIterator[WeekReceivers]:
    """Run them while the block runs."""
    made = WeekReceivers(failing)
    connections: list[_Connection] = []

    def connected() -> SMTP:
        connections.append(_Connection(made, hostname="mail.example.com"))
        return connections[-1]

    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0)
    made.mail_port = server.sockets[0].getsockname()[1]
    try:
        async with receiving() as made.webhooks:
            made.webhooks.reply = made.reply
            yield made
            await asyncio.gather(*made._interrupting)
    finally:
        server.close()
        for each in connections:
            if not each.socket.is_closing():
                each.socket.abort()
        await server.wait_closed()
