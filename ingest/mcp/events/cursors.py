"""Pure: cursors. One is for the agent and user it was given to, for one name and its arguments, and opaque to them.

AES-SIV (RFC 5297) is a MAC over all of that which hides what it covers: a position would tell how much the others of a
shard are told. Equal places make equal cursors. Layout, in octets:

    version (1) | which key (4) | tag (16) and ciphertext of:
    log id (16) | seen at, microseconds, 0: not known (8) | for each shard: its number (2) | its position (8)
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from slotwire.ingest.mcp.events.profiles import EventsProblem, EventsRefused

MAX_CURSOR = 2_000
"""Characters of a cursor; one of 64 shards has 920."""
_VERSION = 1
_HEAD_BYTES = 5
_FIXED = struct.Struct(">16sQ")
_PLACE = struct.Struct(">HQ")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class LogPlace:
    """A place in one log: everything up to it has been served.

    Attributes:
        log_id: the log.
        positions: by shard. The events of an organization are in one.
        seen_at: when nothing else was published; None where that is not known.
    """

    log_id: UUID
    positions: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    seen_at: datetime | None = None


@dataclass(frozen=True)
class CursorScope:
    """What a cursor is bound to.

    Attributes:
        identity: agent and user.
        name: the type of the events.
        arguments: canonical.
    """

    identity: tuple[str, str]
    name: str
    arguments: str

    @property
    def context(self) -> list[bytes]:
        """Associated data: each of its own, so that no two scopes read the same."""
        return [each.encode() for each in (*self.identity, self.name, self.arguments)]


class EventCursors:
    """Writes cursors with the first key, and reads those of all."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        """Take the keys of the process.

        Args:
            keys: the first writes; the others are retired, and read as long as they are here.
        """
        derived = [hmac.digest(key, b"slotwire mcp cursors", "sha256") for key in keys]
        self._ciphers = {hashlib.sha256(key).digest()[:4]: AESSIV(key) for key in derived}
        self._writing = next(iter(self._ciphers))

    def write(self, place: LogPlace, scope: CursorScope) -> str:
        """Write a cursor."""
        seen = 0 if place.seen_at is None else (place.seen_at - _EPOCH) // timedelta(microseconds=1)
        plain = _FIXED.pack(place.log_id.bytes, seen) + b"".join(
            _PLACE.pack(shard, position) for shard, position in sorted(place.positions.items())
        )
        head = bytes((_VERSION,)) + self._writing
        octets = head + self._ciphers[self._writing].encrypt(plain, [head, *scope.context])
        return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()

    def read(self, text: str, scope: CursorScope) -> LogPlace:
        """Read a cursor.

        Raises:
            EventsRefused: it is not one of ours, or of another agent, user, name or other arguments.
        """
        try:
            text = text[:MAX_CURSOR]
            octets = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            head, sealed = octets[:_HEAD_BYTES], octets[_HEAD_BYTES:]
            # One of another version, or of a key that is gone, opens with none of ours.
            plain = self._ciphers.get(head[1:], self._ciphers[self._writing]).decrypt(sealed, [head, *scope.context])
            log_id, seen = _FIXED.unpack_from(plain)
            positions = dict(_PLACE.iter_unpack(plain[_FIXED.size :]))
        except (ValueError, InvalidTag, struct.error):
            raise EventsRefused(
                EventsProblem.INVALID_PARAMS,
                "this cursor was not given for these arguments to this agent and user. Send null to begin now.",
            ) from None
        seen_at = _EPOCH + timedelta(microseconds=seen) if seen else None
        return LogPlace(UUID(bytes=log_id), MappingProxyType(positions), seen_at)
