"""Seeded choices that do not depend on the order in which they are made.

A draw is a keyed hash of its labels and a counter. So two simulators with the same seed make the same choices even if
their deliveries finish in different orders; with a stateful generator they would not.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

LEGACY_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
LEGACY_LENGTH = 16


class Draws:
    """An endless sequence of choices named by labels, for example `Draws(seed, "invitee", 17)`."""

    def __init__(self, *labels: object) -> None:
        self._key = hashlib.blake2b("\x1f".join(map(str, labels)).encode(), digest_size=32).digest()
        self._drawn = 0

    def octets(self, size: int) -> bytes:
        """Return `size` pseudo-random bytes, 64 at the most."""
        self._drawn += 1
        return hashlib.blake2b(self._drawn.to_bytes(8), key=self._key, digest_size=size).digest()

    def below(self, limit: int) -> int:
        """Return an integer from 0 to `limit` - 1."""
        return int.from_bytes(self.octets(8)) % limit

    def fraction(self) -> float:
        """Return a float from 0 up to, but not including, 1."""
        return (int.from_bytes(self.octets(8)) >> 11) / (1 << 53)

    def chance(self, rate: float) -> bool:
        """Return true with a probability of `rate`, from 0 to 1."""
        return self.fraction() < rate

    def pick(self, choices: Sequence[T]) -> T:
        """Return one of `choices`."""
        return choices[self.below(len(choices))]

    def weighted(self, weights: Sequence[tuple[T, int]]) -> T:
        """Return one of the choices with a probability in proportion to its weight; one weight must be positive."""
        at = self.below(sum(weight for _, weight in weights))
        for choice, weight in weights:
            if at < weight:
                return choice
            at -= weight
        raise AssertionError("unreachable: the draw is below the sum of the weights")

    def uuid(self) -> str:
        """Return an id in the form of most Calendly ids (docs/reference/calendly.md, "Parsing")."""
        return str(uuid.UUID(bytes=self.octets(16), version=4))

    def legacy_id(self) -> str:
        """Return an id in Calendly's older form: 16 upper-case characters (docs/reference/calendly.md, "Parsing")."""
        return "".join(LEGACY_ALPHABET[octet % 32] for octet in self.octets(LEGACY_LENGTH))
