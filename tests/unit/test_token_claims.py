"""What a token says of itself, read without trusting it."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from slotwire.ingest.control.token_claims import MAX_TOKEN, TokenClaims, read_claims


def jwt(claims: object, *, padded: bool = False) -> SecretStr:
    """Make a token around claims; its signature is worth nothing."""
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()
    return SecretStr(f"eyJhbGciOiJIUzI1NiJ9.{part if padded else part.rstrip('=')}.c2ln")


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        (
            {"user_uuid": "U", "scope": "users:read webhooks:write", "exp": 1_800_000_000},
            TokenClaims("U", ("users:read", "webhooks:write"), datetime(2027, 1, 15, 8, tzinfo=UTC)),
        ),
        ({"user_uuid": "U", "scopes": ["a:read", "a:read", "b:write"]}, TokenClaims("U", ("a:read", "b:write"))),
        ({"scope": "", "scopes": ["a:read"]}, TokenClaims(scopes=())),
        ({"iss": "https://auth.calendly.com"}, TokenClaims()),
        ({"user_uuid": "Ü", "jti": "?>?>"}, TokenClaims("Ü")),
        ({"user_uuid": 5, "scope": {"a": 1}, "exp": "soon"}, TokenClaims()),
        ({"user_uuid": "", "scopes": ["a:read", 1], "exp": True}, TokenClaims()),
        ({"user_uuid": "U", "exp": 1e300}, TokenClaims("U")),
        ({"user_uuid": "U", "exp": float("nan")}, TokenClaims("U")),
        ([1, 2], TokenClaims()),
        ("text", TokenClaims()),
        (None, TokenClaims()),
    ],
)
def test_what_a_token_says_is_read(claims: object, told: TokenClaims) -> None:
    """User, scopes as words or list, and end are read, each by itself; a claim of another shape says nothing."""
    assert read_claims(jwt(claims)) == told
    assert read_claims(jwt(claims, padded=True)) == told


@pytest.mark.parametrize(
    "text", ["", "a", "a.b", "..", "a.b.c", "a.b.c.d", "a.é.c", "a.bm8.c", "a. eyJ9.c", "a.W1tb.c"]
)
def test_what_is_no_token_says_nothing(text: str) -> None:
    """Text that is no such JWT gives empty claims, and no error."""
    assert read_claims(SecretStr(text)) == TokenClaims()


def test_the_longest_token_and_one_past_it() -> None:
    """MAX_TOKEN characters are read; one more says nothing."""
    bare = jwt({"user_uuid": "U"}).get_secret_value()
    longest = bare + "x" * (MAX_TOKEN - len(bare))
    assert read_claims(SecretStr(longest)) == TokenClaims("U")
    assert read_claims(SecretStr(longest + "x")) == TokenClaims()


@given(st.text(max_size=200))
def test_nothing_makes_it_raise(text: str) -> None:
    """Whatever stands where the claims do, reading ends without an error."""
    encoded = base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode()
    for token in (text, f"a.{text}.c", f"a.{encoded}.c"):
        claims = read_claims(SecretStr(token))
        assert claims.user_uuid is None or isinstance(claims.user_uuid, str)


def test_deep_claims_say_nothing() -> None:
    """Claims nested a thousand levels deep are refused by the reader of JSON, not by the stack."""
    deep = base64.urlsafe_b64encode(b'{"user_uuid":' + b"[" * 1_000 + b"]" * 1_000 + b"}").decode()
    assert read_claims(SecretStr(f"a.{deep}.c")) == TokenClaims()


@pytest.mark.parametrize(
    ("scopes", "lacks"),
    [
        (("users:read", "webhooks:write", "scheduled_events:read"), ()),
        (("users:read", "webhooks:write", "scheduled_events:write"), ()),
        (("default",), ()),
        (None, ()),
        (("users:read", "webhooks:read"), ("webhooks:write", "scheduled_events:read")),
        ((), ("users:read", "webhooks:write", "scheduled_events:read")),
    ],
)
def test_what_a_token_lacks_is_told(scopes: tuple[str, ...] | None, lacks: tuple[str, ...]) -> None:
    """`:write` includes `:read`, not the other way; `default` is all; a silent token lacks nothing that is known."""
    needed = ("users:read", "webhooks:write", "scheduled_events:read")
    assert TokenClaims(scopes=scopes).lacks(needed) == lacks


def test_the_token_is_not_in_the_claims() -> None:
    """What was read has a text form, and the token is not in it."""
    token = jwt({"user_uuid": "U", "scope": "users:read"})
    assert token.get_secret_value() not in repr(read_claims(token))
