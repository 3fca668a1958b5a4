"""The simulator's signature against vectors that neither it nor our verifier computed."""

from __future__ import annotations

import pytest

from slotwire.ingest.simulator.signature import signature

LONG_KEY = "5mEzn9C-I28UtwOjZJtFoob0sAAFZ95GbZkqj4y3i0I"


@pytest.mark.parametrize(
    ("key", "body", "expected"),
    [
        (
            "test-secret-key-12345",
            b'{"event":"invitee.created"}',
            "b857828bb2046b2f2178b51dd17701e773e9ca9319b361ceed3cfb7e90748c15",
        ),
        (
            LONG_KEY,
            b'{"event":"invitee.created"}',
            "93729f19118c118dd3e4c50475a64689b39b25bd43630067401342b83f789987",
        ),
        (
            LONG_KEY,
            '{"event":"invitee.created","payload":{"name":"Zoë"}}'.encode(),
            "38747c937eb1a19d4c5f4fe6b6d6c19be24c95979518195f9e9801a407131d68",
        ),
        (LONG_KEY, b"", "4396bbc80a10174b47d95df40d76949f57e47bcb4154d9950367afcd1c0fc32e"),
    ],
)
def test_signature_equals_the_computed_vectors(key: str, body: bytes, expected: str) -> None:
    """The key's UTF-8 bytes sign `t`, a full stop and the raw body, in lower-case hex."""
    assert signature(key, body, 1_700_000_000) == f"t=1700000000,v1={expected}"
