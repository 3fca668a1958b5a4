"""The signature check: what passes, what does not, and that nothing else can mint a verified delivery."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotwire.ingest.errors import DeliveryRefused
from slotwire.ingest.receive.verify import (
    _NOBODYS_KEYS,
    MAX_AHEAD,
    MAX_HEADER_LENGTH,
    MAX_LINES,
    MAX_SIGNATURES,
    MAX_TIMES,
    HookTenant,
    ReceivedDelivery,
    verify,
)
from tests.support.public_endpoint import sign

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
TENANT = HookTenant("A", 0, uuid4())
KEY = "5mEzn9C-I28UtwOjZJtFoob0sAAFZ95GbZkqj4y3i0I"
KEY_ID = uuid4()
KEYS = {KEY_ID: KEY.encode()}
BODY = b'{"event":"invitee.created"}'


def received(body: bytes, *signatures: str) -> ReceivedDelivery:
    """Make a delivery as the listener hands it over."""
    return ReceivedDelivery(uuid4(), body, signatures, "", NOW, None)


def passes(*headers: str) -> bool:
    """Verify the body under these headers, and return whether it is the body that was verified."""
    return verify(received(BODY, *headers), TENANT, KEYS, now=NOW).body == BODY


def reason(body: bytes, *signatures: str, keys: Mapping[UUID, bytes] | None = None) -> str:
    """Return why a delivery is refused."""
    with pytest.raises(DeliveryRefused) as refused:
        verify(received(body, *signatures), TENANT, KEYS if keys is None else keys, now=NOW)
    return refused.value.reason


@pytest.mark.parametrize(
    ("key", "body", "digest"),
    [
        ("test-secret-key-12345", BODY, "b857828bb2046b2f2178b51dd17701e773e9ca9319b361ceed3cfb7e90748c15"),
        (KEY, BODY, "93729f19118c118dd3e4c50475a64689b39b25bd43630067401342b83f789987"),
        (
            KEY,
            '{"event":"invitee.created","payload":{"name":"Zoë"}}'.encode(),
            "38747c937eb1a19d4c5f4fe6b6d6c19be24c95979518195f9e9801a407131d68",
        ),
        (KEY, b"", "4396bbc80a10174b47d95df40d76949f57e47bcb4154d9950367afcd1c0fc32e"),
    ],
)
def test_computed_vectors_verify(key: str, body: bytes, digest: str) -> None:
    """The vectors computed from the documented rule pass, three years later too: age refuses nothing."""
    verified = verify(received(body, f"t=1700000000,v1={digest}"), TENANT, {uuid4(): key.encode()}, now=NOW)
    assert verified.signed_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_any_signature_under_any_key_is_enough() -> None:
    """While a key is rotated, several `v1` and several keys are tried."""
    good = sign(BODY, KEY, at=NOW.timestamp())
    other = sign(BODY, "other", at=NOW.timestamp()).partition(",")[2]
    verified = verify(received(BODY, f" {good} ,{other}, v0=x"), TENANT, {uuid4(): b"new", **KEYS}, now=NOW)
    assert verified.body is not None
    assert verified.tenant is TENANT
    assert verified.signing_key == KEY_ID


def test_each_malformed_header_is_refused() -> None:
    """Missing, cut and foreign headers are malformed, never an error."""
    assert reason(BODY) == "missing"
    bad = ["", "x", "t=1", "v1=" + "0" * 64, "t=-1,v1=" + "0" * 64, "t=\u0661,v1=" + "0" * 64]
    bad += ["t=1,v1=" + "0" * 63, "t=1,v1=" + "g" * 64, "t=9999999999999,v1=" + "0" * 64]
    assert {reason(BODY, header) for header in bad} == {"malformed"}


def test_one_valid_signature_of_several_is_enough() -> None:
    """In lines of their own or joined by commas, repeated, of other times, beside garbage: any valid `v1` counts."""
    good = sign(BODY, KEY, at=NOW.timestamp())
    other = sign(BODY, "other", at=NOW.timestamp() - 9)
    time, _, digest = good.partition(",")
    several = [
        (good, good),
        (f"{good},{good}",),
        (other, good),
        (good, other),
        (f"{other}, {good}",),
        (f"{good}, {other}",),
        ("", "garbage", good),
        ("t=1", good),
        (f"t=1,{good}",),
        (f"{good},v1=cut",),
        (f"{digest},{time}",),
    ]
    for headers in several:
        assert verify(received(BODY, *headers), TENANT, KEYS, now=NOW).signed_at == NOW, headers
    assert reason(BODY, other, other) == "mismatch"
    assert reason(BODY, f"{time},{other.partition(',')[2]}", f"t=1,{digest}") == "mismatch"


def test_of_several_valid_times_the_latest_counts_that_is_not_in_the_future() -> None:
    """A second line cannot make a delivery older than it is, nor push it into the future."""
    early, late = sign(BODY, KEY, at=NOW.timestamp() - 60), sign(BODY, KEY, at=NOW.timestamp())
    future = sign(BODY, KEY, at=(NOW + MAX_AHEAD).timestamp() + 1)
    assert verify(received(BODY, late, early), TENANT, KEYS, now=NOW).signed_at == NOW
    assert verify(received(BODY, future, late), TENANT, KEYS, now=NOW).signed_at == NOW


def test_the_number_of_lines_and_times_is_bounded() -> None:
    """As many lines as may be and as many times pass; one more is refused, although it repeats a valid one."""
    good = sign(BODY, KEY, at=NOW.timestamp())
    assert passes(*[good] * MAX_LINES)
    assert reason(BODY, *[good] * (MAX_LINES + 1)) == "malformed"
    times = [f"t={number},v1={'0' * 64}" for number in range(1, MAX_TIMES)]
    assert passes(",".join([*times, good]))
    assert reason(BODY, ",".join([*times, f"t=0,v1={'0' * 64}", good])) == "malformed"


def test_the_header_s_limits_hold_at_and_past_them() -> None:
    """Eight signatures and 1,024 characters pass, in one line or in several; one more does not."""
    good = sign(BODY, KEY, at=NOW.timestamp())
    filler = ",v1=" + "0" * 64
    assert passes(good + filler * (MAX_SIGNATURES - 1))
    assert reason(BODY, good + filler * MAX_SIGNATURES) == "malformed"
    padded = good + ",x=" + "y" * (MAX_HEADER_LENGTH - len(good) - 3)
    assert passes(padded)
    assert reason(BODY, padded + "y") == "malformed"
    assert passes(padded[:-9], "y" * 9)
    assert reason(BODY, padded[:-9], "y" * 10) == "malformed"


def test_the_future_is_refused_past_the_limit_only() -> None:
    """A signature 300 s ahead passes, one second more is refused under its own reason."""
    ahead = (NOW + MAX_AHEAD).timestamp()
    assert passes(sign(BODY, KEY, at=ahead))
    assert reason(BODY, sign(BODY, KEY, at=ahead + 1)) == "from_future"
    very_old = verify(received(BODY, sign(BODY, KEY, at=0)), TENANT, KEYS, now=NOW)
    assert NOW - very_old.signed_at > timedelta(days=20_000)


def test_an_unknown_hook_is_refused_whatever_is_signed() -> None:
    """Nobody's hook takes nobody's signature, not even one made with a key we know."""
    with pytest.raises(DeliveryRefused) as refused:
        verify(received(BODY, sign(BODY, KEY, at=NOW.timestamp())), None, KEYS, now=NOW)
    assert refused.value.reason == "unknown_hook"


def test_a_hook_without_keys_refuses_whatever_is_signed() -> None:
    """Once all its keys are revoked a hook takes no signature: not the old key's, and not one of the stand-in's."""
    assert reason(BODY, sign(BODY, KEY, at=NOW.timestamp()), keys={}) == "revoked"
    [stand_in] = _NOBODYS_KEYS.values()
    assert reason(BODY, sign(BODY, stand_in.decode(), at=NOW.timestamp()), keys={}) == "revoked"


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_no_mutation_passes(data: st.DataObject) -> None:
    """A changed byte of body or signature, or another time, never verifies."""
    body = data.draw(st.binary(max_size=200))
    header = sign(body, KEY, at=NOW.timestamp())
    where = data.draw(st.sampled_from(["body", "digest", "time", "key"]))
    key = KEY.encode()
    if where == "body":
        at = data.draw(st.integers(0, len(body)))
        body = body[:at] + data.draw(st.binary(min_size=1, max_size=3)) + body[at:]
    elif where == "digest":
        at = data.draw(st.integers(header.index("v1=") + 3, len(header) - 1))
        header = header[:at] + ("0" if header[at] != "0" else "1") + header[at + 1 :]
    elif where == "time":
        header = re.sub(r"t=\d+", f"t={data.draw(st.integers(0, 10**10))}", header)
        if header == sign(body, KEY, at=NOW.timestamp()):
            return
    else:
        key = data.draw(st.binary(min_size=1, max_size=64).filter(lambda other: other != KEY.encode()))
    with pytest.raises(DeliveryRefused):
        verify(received(body, header), TENANT, {KEY_ID: key}, now=NOW)
