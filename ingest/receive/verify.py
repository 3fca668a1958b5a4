"""Verify: did Calendly send these bytes to this subscription? Pure: bytes, keys and the time go in.

Only this module makes a `VerifiedDelivery`, and webhooks are accepted as nothing else, so an unverified body cannot go
further. Source: docs/reference/calendly.md, "Webhook signature" (header, signed bytes, algorithm).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from slotwire.ingest.errors import DeliveryRefused

SIGNATURE_HEADER = "Calendly-Webhook-Signature"
MAX_AHEAD = timedelta(seconds=300)
"""How far in the future a signature may be. One from later is refused, or it could be replayed until then."""
MAX_SIGNATURES = 8
"""`v1` values in one request. Several may appear while a key is rotated, and a proxy may repeat the header."""
MAX_TIMES = 4
"""Different `t` values in one request. Each costs a digest of the body for each key."""
MAX_LINES = 4
"""Headers with this name in one request. A proxy may also join them into one, with commas."""
MAX_HEADER_LENGTH = 1_024
"""Characters of all these headers together. A real one has 81."""

_USUAL = re.compile(r"t=([0-9]{1,11}),v1=([0-9a-fA-F]{64})", re.ASCII)
"""The header that Calendly sends unless a key is being rotated; one step reads it."""
_TIMESTAMP = re.compile(r"[0-9]{1,11}", re.ASCII)
_V1 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_NOBODYS_KEYS = {UUID(int=0): b"a key that signs nothing: an unknown hook costs what a known one costs"}


@dataclass(frozen=True, slots=True)
class HookTenant:
    """The organization whose hook a delivery came to.

    Attributes:
        org: the organization: the last segment of its URI at Calendly.
        shard: the organization's shard of the log.
        subscription_id: the subscription the hook belongs to.
        max_age: older authentic deliveries are quarantined; None accepts any age.
    """

    org: str
    shard: int
    subscription_id: UUID
    max_age: timedelta | None = None


class ReceivedDelivery(NamedTuple):
    """One HTTP POST, its body as received.

    Attributes:
        id: ours, ordered by time of arrival.
        signatures: every value of the signature header.
        content_encoding: the header's value; we never decompress.
        traceparent: the trace it belongs to.
    """

    id: UUID
    body: bytes
    signatures: tuple[str, ...]
    content_encoding: str
    received_at: datetime
    traceparent: str | None


class VerifiedDelivery(NamedTuple):
    """A delivery that Calendly signed for this tenant. Only this module makes one.

    Attributes:
        signed_at: the signature's time.
        signing_key: the id of the key that verified it: it is accepted only while that key is not revoked.

    The others are as in `ReceivedDelivery`.
    """

    id: UUID
    tenant: HookTenant
    body: bytes
    content_encoding: str
    received_at: datetime
    signed_at: datetime
    traceparent: str | None
    signing_key: UUID


def verify(
    delivery: ReceivedDelivery, tenant: HookTenant | None, keys: Mapping[UUID, bytes], *, now: datetime
) -> VerifiedDelivery:
    """Check the signature over the bytes as received.

    Any `v1` may match, over the `t` it came with, under any of the keys. Age alone is no reason to refuse: a retry may
    carry its first `t` for more than a day, and computed event ids make a replay harmless.

    Args:
        delivery: as received.
        tenant: the tenant of its hook; None for an unknown hook, which takes the same time.
        keys: the subscription's signing keys by id, as Calendly has them (UTF-8 bytes of the string); none where all
            are revoked.
        now: the time of arrival.

    Raises:
        DeliveryRefused: with reason `missing`, `malformed`, `mismatch`, `revoked`, `unknown_hook` or `from_future`.
    """
    if not delivery.signatures:
        raise DeliveryRefused("missing" if tenant else "unknown_hook")
    matching: dict[int, UUID] = {}
    for timestamp, candidates in _parse(delivery.signatures).items():
        signed = timestamp.encode() + b"." + delivery.body
        for key_id, key in ((tenant and keys) or _NOBODYS_KEYS).items():
            digest = hmac.digest(key, signed, "sha256")
            for candidate in candidates:
                if hmac.compare_digest(digest, candidate):
                    matching[int(timestamp)] = key_id
    if tenant is None:
        raise DeliveryRefused("unknown_hook")
    if not keys:
        raise DeliveryRefused("revoked")
    if not matching:
        raise DeliveryRefused("mismatch")
    latest = (now + MAX_AHEAD).timestamp()
    signed_at = max((at for at in matching if at <= latest), default=None)
    if signed_at is None:
        raise DeliveryRefused("from_future")
    return VerifiedDelivery(
        id=delivery.id,
        tenant=tenant,
        body=delivery.body,
        content_encoding=delivery.content_encoding,
        received_at=delivery.received_at,
        signed_at=datetime.fromtimestamp(signed_at, UTC),
        traceparent=delivery.traceparent,
        signing_key=matching[signed_at],
    )


def _parse(headers: tuple[str, ...]) -> dict[str, list[bytes]]:
    """Read `t=<unix seconds>,v1=<hex>`: the digests by their time.

    A second `t` begins another signature, in a header of its own or joined by a comma. A `v1` belongs to the `t` before
    it, or to the first one if there is none before it. Parts that cannot be read count for nothing.
    """
    if len(headers) > MAX_LINES or sum(map(len, headers)) > MAX_HEADER_LENGTH:
        raise DeliveryRefused("malformed")
    usual = _USUAL.fullmatch(headers[0])
    if usual is not None and len(headers) == 1:
        return {usual[1]: [bytes.fromhex(usual[2])]}
    found: dict[str, list[bytes]] = {}
    for header in headers:
        _read_header(header, found)
    signed = {timestamp: digests for timestamp, digests in found.items() if digests}
    if not signed or len(signed) > MAX_TIMES or sum(map(len, signed.values())) > MAX_SIGNATURES:
        raise DeliveryRefused("malformed")
    return signed


def _read_header(header: str, found: dict[str, list[bytes]]) -> None:
    """Add the digests of one header to those found."""
    digests: list[bytes] = []
    timed = False
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name == "t" and _TIMESTAMP.fullmatch(value):
            earlier = [] if timed else digests
            digests = found.setdefault(value, [])
            digests += earlier
            timed = True
        elif name == "v1" and _V1.fullmatch(value):
            digests.append(bytes.fromhex(value))
