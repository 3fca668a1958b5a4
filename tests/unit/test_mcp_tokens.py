"""Tokens of agents: who signs, what they are good for, and for how long."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from slotwire.ingest.errors import ConfigurationError
from slotwire.ingest.foundation.mcp_settings import McpSettings
from slotwire.ingest.mcp.tokens import AHEAD, Claims, TokenKeys, event_keys
from tests.support.public_endpoint import random_key

NOW = datetime(2026, 11, 27, 9, 0, 0, 500_000, tzinfo=UTC)
HERE = "https://mcp.example.com/mcp/helper"
USER = "https://api.calendly.com/users/U"


def keys_of(*names: str, texts: dict[str, str] | None = None) -> TokenKeys:
    """Make keys by name."""
    made = texts if texts is not None else {name: random_key() for name in names}
    return TokenKeys.from_settings(McpSettings(token_keys=tuple(SecretStr(f"{n}:{k}") for n, k in made.items())))


@pytest.mark.parametrize("chain", [None, UUID(int=7)])
def test_a_token_tells_what_it_was_issued_for(chain: UUID | None) -> None:
    """Agent, user and chain come back, until the second in which it ends, 15 minutes later."""
    keys, agent = keys_of("a"), uuid4()
    token, ends = keys.issue(HERE, agent, USER, chain, NOW)
    assert ends - NOW.replace(microsecond=0) == timedelta(minutes=15)
    for seconds in (0, 899.49):
        assert keys.read(token, HERE, NOW + timedelta(seconds=seconds)) == Claims(agent, USER, chain, ends)
    assert keys.read(token, HERE, ends) is None
    assert keys.read(token, HERE, NOW - AHEAD - timedelta(seconds=1)) is None


def test_keys_are_changed_without_refusing_a_token() -> None:
    """While both are listed, tokens of the old key are good beside those of the new one; then they are not."""
    texts = {"old": random_key(), "new": random_key()}
    old = keys_of(texts={"old": texts["old"]})
    both = keys_of(texts={"new": texts["new"], "old": texts["old"]})
    before, _ = old.issue(HERE, uuid4(), USER, None, NOW)
    after, _ = both.issue(HERE, uuid4(), USER, None, NOW)
    assert jwt.get_unverified_header(after)["kid"] == "new"
    assert both.read(before, HERE, NOW) is not None
    assert both.read(after, HERE, NOW) is not None
    assert keys_of(texts={"new": texts["new"]}).read(before, HERE, NOW) is None


@pytest.mark.parametrize(
    "audience", ["https://mcp.example.com/mcp/other", "https://mcp.example.net/mcp/helper", "https://mcp.example.com"]
)
def test_a_token_is_good_for_its_endpoint_only(audience: str) -> None:
    """Another agent's endpoint, another listener's, and the listener itself are not its audience."""
    keys = keys_of("a")
    token, _ = keys.issue(HERE, uuid4(), USER, None, NOW)
    assert keys.read(token, audience, NOW) is None


def test_no_other_algorithm_and_no_missing_claim_is_accepted() -> None:
    """A token without a signature, of another algorithm, or that says too little, is none of ours."""
    keys = keys_of("a")
    token, _ = keys.issue(HERE, uuid4(), USER, None, NOW)
    key, claims = keys.keys["a"], jwt.decode(token, options={"verify_signature": False})
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "none", "kid": "a"}, claims)
    ]
    assert keys.read(".".join([*parts, ""]), HERE, NOW) is None
    assert keys.read(jwt.encode(claims, key * 2, algorithm="HS512", headers={"kid": "a"}), HERE, NOW) is None
    for name in claims:
        less = {each: value for each, value in claims.items() if each != name}
        assert keys.read(jwt.encode(less, key, algorithm="HS256", headers={"kid": "a"}), HERE, NOW) is None, name
    nested = base64.urlsafe_b64encode(b"[" * 2_900).rstrip(b"=").decode()
    assert keys.read(f"{nested}.e30.AA", HERE, NOW) is None
    odd = {**claims, "exp": 10**30}
    assert keys.read(jwt.encode(odd, key, algorithm="HS256", headers={"kid": "a"}), HERE, NOW) is None


@given(st.text(max_size=60), st.integers(0, 400), st.characters())
def test_no_other_text_is_a_token(text: str, place: int, letter: str) -> None:
    """Any text, and a token with any octet changed that means something, is refused and never an error."""
    keys = keys_of("a")
    assert keys.read(text, HERE, NOW) is None
    token, _ = keys.issue(HERE, uuid4(), USER, None, NOW)
    place %= token.rindex(".")  # the last octet of a signature has bits that mean nothing
    changed = token[:place] + letter + token[place + 1 :]
    assert changed == token or keys.read(changed, HERE, NOW) is None


@pytest.mark.parametrize("entry", ["nameless", ":unnamed", "a:short", "a b:" + "A" * 43])
def test_keys_that_do_not_fit_are_refused_without_being_shown(entry: str) -> None:
    """The message names the setting and how to make a key."""
    with pytest.raises(ConfigurationError, match="SLOTWIRE_MCP__TOKEN_KEYS") as refused:
        TokenKeys.from_settings(McpSettings(token_keys=(SecretStr(entry),)))
    assert entry not in str(refused.value)
    with pytest.raises(ConfigurationError, match="is not set"):
        TokenKeys.from_settings(McpSettings())


def test_keys_of_events_are_derived_where_none_are_set() -> None:
    """They are others than the tokens' keys, the same on every replica, and replaced by those that are set."""
    settings = McpSettings(token_keys=(SecretStr(f"a:{random_key()}"),))
    keys = TokenKeys.from_settings(settings)
    found = event_keys(settings, keys)
    assert found == event_keys(settings, TokenKeys.from_settings(settings))
    assert set(found) == {"a"}
    assert len(found["a"]) == 32
    assert found["a"] not in (keys.keys["a"], *keys.derived("another purpose"))
    own = settings.model_copy(update={"event_keys": (SecretStr(f"e:{random_key()}"),)})
    assert set(event_keys(own, keys)) == {"e"}
