"""What the load sends: bookings over Google Meet of 1.9 KB, each of another invitee, each signed for itself.

An independent signer: it follows docs/reference/calendly.md, "Webhook signature", not our verifier.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from dataclasses import dataclass
from pathlib import Path

import orjson

PAYLOAD = Path(__file__).parents[1] / "payloads" / "invitee.created" / "google_processing.json"
"""The scenario the bodies are made from: compact JSON in Calendly's order of keys."""
_SLOTS = (
    (b"15f35f1b-427a-4597-9ab9-94c0b81ccb87", b"%(event)b"),
    (b"9faa00e5-b4d1-4d35-a053-0dcfb2a2da51", b"%(invitee)b"),
)
"""The ids in it that are replaced, by what."""


@dataclass(frozen=True, slots=True)
class Target:
    """A hook to send to.

    Attributes:
        port: on 127.0.0.1.
        path: of the hook.
        key: the subscription's signing key.
    """

    port: int
    path: str
    key: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request, ready to be written.

    Attributes:
        invitee: the last segment of the invitee's URI.
        request: header and body.
    """

    invitee: str
    request: bytes


class Mint:
    """Makes deliveries for one hook."""

    def __init__(self, target: Target) -> None:
        told = orjson.loads(PAYLOAD.read_bytes())
        payload, event = told["payload"], told["payload"]["scheduled_event"]
        payload.update(questions_and_answers=[], email="toni@DOMAIN")
        event.update(name="Intro")
        event["event_memberships"][0].update(user_email="charlie@example.com")
        body = orjson.dumps(told).replace(b"%", b"%%").replace(*_SLOTS[0]).replace(*_SLOTS[1])
        self._body = body.replace(b"@DOMAIN", b"@%(domain)b")
        self._key = target.key.encode()
        self._head = (
            f"POST {target.path} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\nUser-Agent: slotwire-bench\r\n"
            "Content-Type: application/json\r\n"
        ).encode()

    def body(self, domain: str = "example.com") -> tuple[str, bytes]:
        """Make a body about an invitee nobody has seen, of a domain; returns the invitee's id and the body."""
        invitee = _new_id()
        filled = {b"event": _new_id().encode(), b"invitee": invitee.encode(), b"domain": domain.encode()}
        return invitee, self._body % filled

    def documents(self) -> tuple[object, object]:
        """Make the documents of another invitee and of its scheduled event, as REST gives them."""
        payload = orjson.loads(self.body()[1])["payload"]
        return payload, payload.pop("scheduled_event")

    def delivery(self, domain: str = "example.com") -> Delivery:
        """Make a signed request about an invitee nobody has seen, of a domain."""
        invitee, body = self.body(domain)
        moment = str(int(time.time())).encode()
        digest = hmac.digest(self._key, moment + b"." + body, hashlib.sha256).hex()
        length = str(len(body)).encode()
        header = b"Calendly-Webhook-Signature: t=%b,v1=%b\r\nContent-Length: %b\r\n\r\n"
        return Delivery(invitee, self._head + header % (moment, digest.encode(), length) + body)


def _new_id() -> str:
    """Make an id in the form of a UUID, without the cost of the class."""
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
