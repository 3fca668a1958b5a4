"""Identifiers are the same for ever: they are compared with values that were written down."""

from __future__ import annotations

from uuid import NAMESPACE_URL, uuid5

from hypothesis import given
from hypothesis import strategies as st

from slotwire.schemas.ids import chain_key, event_id, last_segment, shard_of

ORG = "https://api.calendly.com/organizations/A"


def test_identifiers_never_change() -> None:
    """An id of the first day is the id of today: the log, Kafka and every consumer hold them."""
    assert str(event_id(ORG, "invitee.created", "https://x/1")) == "f0426422-0a99-5b42-b94d-50a425369623"
    assert chain_key(ORG, "https://x/1") == "4141b6cc-0917-53b7-b3db-2e477227300c"
    assert [shard_of(f"{ORG}{n}", 8) for n in range(8)] == [2, 2, 3, 5, 2, 3, 1, 1]


@given(st.text(), st.text(), st.text(), st.text())
def test_event_ids_are_uuid5(organization: str, event: str, resource: str, discriminator: str) -> None:
    """Any client can compute them with its library's UUID version 5."""
    names = (organization, event, resource, discriminator)
    try:
        expected = uuid5(uuid5(NAMESPACE_URL, "urn:slotwire:event"), "\n".join(names))
    except UnicodeEncodeError:
        return
    assert event_id(*names) == expected


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_chain_keys_are_uuid5(invitee: str) -> None:
    """Any client can compute the key an invitee begins with."""
    assert chain_key(ORG, invitee) == str(uuid5(uuid5(NAMESPACE_URL, "urn:slotwire:chain"), f"{ORG}\n{invitee}"))


def test_the_last_segment_is_what_follows_the_last_slash() -> None:
    """Identifiers are opaque; a slash at the end changes nothing."""
    assert [last_segment(uri) for uri in ("https://x/a/B-1_c", "https://x/a/B/", "B")] == ["B-1_c", "B", "B"]
