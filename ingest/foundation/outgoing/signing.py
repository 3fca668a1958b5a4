"""Signatures of webhooks as Standard Webhooks has them, version 1: HMAC-SHA256 over id, time and body. Pure."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Sequence
from datetime import datetime

PREFIX = "whsec_"
MIN_SECRET_BYTES = 24
MAX_SECRET_BYTES = 64
_ID = re.compile(r"[!-\-/-~]{1,200}", re.ASCII)
"""A message's id: printable and without a full stop, which ends it in what is signed."""


def webhook_secret(text: str) -> bytes:
    """Read a secret as receivers are given it: `whsec_` and base64 of 24 to 64 bytes.

    Raises:
        ValueError: it is another form. The message does not show it.
    """
    try:
        secret = base64.b64decode(text.removeprefix(PREFIX), validate=True) if text.startswith(PREFIX) else b""
    except binascii.Error:
        secret = b""
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise ValueError(f"must be {PREFIX} and base64 of {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes")
    return secret


def standard_webhook_headers(
    secret: bytes, message_id: str, timestamp: datetime, body: bytes, *, also: Sequence[bytes] = ()
) -> dict[str, str]:
    """Sign a message.

    Args:
        secret: as `webhook_secret` returns it.
        message_id: the same in every attempt, so that a receiver knows what it has seen.
        timestamp: of this attempt, with a zone: receivers refuse what is 5 minutes off.
        body: the bytes that are sent.
        also: further secrets, while receivers change from one to another: any signature is enough.

    Returns:
        The headers `webhook-id`, `webhook-timestamp` and `webhook-signature`.

    Raises:
        ValueError: the id cannot stand in a header or what is signed, or the time has no zone.
    """
    if _ID.fullmatch(message_id) is None:
        raise ValueError("a message's id is 1 to 200 printable characters without a full stop")
    if timestamp.tzinfo is None:
        raise ValueError("a timestamp needs a zone")
    at = str(int(timestamp.timestamp()))
    signed = b".".join((message_id.encode(), at.encode(), body))
    made = (base64.b64encode(hmac.digest(each, signed, "sha256")).decode() for each in (secret, *also))
    return {
        "webhook-id": message_id,
        "webhook-timestamp": at,
        "webhook-signature": " ".join(f"v1,{each}" for each in made),
    }
