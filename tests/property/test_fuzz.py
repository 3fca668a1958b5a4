"""Whatever is sent and signed is read: as a fact that makes events, or as one for the quarantine. Nothing is raised."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from slotwire.ingest.log.batch import Batch
from slotwire.ingest.log.normalize import KNOWN_EVENTS, normalize
from slotwire.ingest.log.outcome import DeliveryOutcome
from slotwire.schemas.codec import Attributes, decode, encode_data, encode_headers
from tests.support.fuzzing import any_bodies, bent_bodies, valid_bodies
from tests.support.writing import accepted
from tools.generate.json_schemas import json_schemas

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
VALIDATORS = {kind: Draft202012Validator(schema) for kind, schema in json_schemas().items()}
Check = Callable[[list[bytes]], list[str]]
Bodies = Callable[[], st.SearchStrategy[bytes]]
REASONS = {
    *("compressed", "not_json", "invalid_utf8", "too_deep", "not_an_envelope", "v1_shape", "invalid_payload"),
    *("unknown_event", "contradictory", "too_many_toggles", "too_many_parts", "too_large"),
    *("unknown_time", "null_character"),
}


def folded(bodies: list[bytes]) -> Batch:
    """Take bodies through normalize and join, in one batch, the first we hear, as far as Postgres."""
    deliveries = [accepted(body, position=position) for position, body in enumerate(bodies, start=1)]
    batch = Batch([fact for delivery in deliveries for fact in normalize(delivery)])
    for rows in (batch.result_rows(), batch.event_rows(NOW), batch.booking_rows(), batch.root_rows()):
        assert rows is not None
    return batch


def check_strict_out(batch: Batch) -> None:
    """Each event fits its JSON Schema, and a consumer reads it."""
    for event in batch.events:
        written = encode_data(event.data)
        assert VALIDATORS[event.data.type].is_valid(orjson.loads(written))
        attributes = Attributes(event.id, event.data.type, "ORG", event.subject, event.time, event.key, 1)
        read = decode(encode_headers(attributes), written)
        assert (read.id, read.subject, read.time) == (event.id, event.subject, event.time)
        assert encode_data(read.data) == written


def check_any(bodies: list[bytes]) -> list[DeliveryOutcome]:
    """Return the outcomes, one a body; what is quarantined has a reason, and a detail fit for a terminal."""
    batch = folded(bodies)
    for each in batch.results:
        assert (each.outcome is DeliveryOutcome.QUARANTINED) == (each.reason is not None)
        assert each.reason is None or (each.reason in REASONS and str(each.detail).isprintable())
    check_strict_out(batch)
    return [each.outcome for each in batch.results]


def check_valid(bodies: list[bytes]) -> list[DeliveryOutcome]:
    """Return the outcomes: every valid body becomes events, or is a copy; none is quarantined."""
    batch = folded(bodies)
    outcomes = [each.outcome for each in batch.results]
    assert set(outcomes) <= {DeliveryOutcome.STORED, DeliveryOutcome.DUPLICATE}
    assert outcomes[0] is DeliveryOutcome.STORED
    check_strict_out(batch)
    return outcomes


CHECKS = [pytest.param(check_any, any_bodies, id="any"), pytest.param(check_valid, valid_bodies, id="valid")]
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.mark.parametrize(("check", "bodies"), CHECKS)
@settings(max_examples=150, deadline=None, suppress_health_check=_SLOW)
@given(data=st.data())
def test_every_body_becomes_an_event_or_is_quarantined(check: Check, bodies: Bodies, data: st.DataObject) -> None:
    """Batches of a few bodies: nothing is raised, the count adds up, and what goes out keeps its schema."""
    sent = data.draw(st.lists(bodies(), min_size=1, max_size=6))
    assert len(check(sent)) == len(sent)


@pytest.mark.soak
@pytest.mark.parametrize(("check", "bodies"), CHECKS)
@settings(max_examples=10_000, deadline=None, suppress_health_check=_SLOW)
@given(data=st.data())
def test_every_body_becomes_an_event_or_is_quarantined_soak(check: Check, bodies: Bodies, data: st.DataObject) -> None:
    """The same over ten thousand batches of each."""
    sent = data.draw(st.lists(bodies(), min_size=1, max_size=6))
    assert len(check(sent)) == len(sent)


@pytest.mark.soak
@pytest.mark.parametrize("event", sorted(KNOWN_EVENTS))
@settings(max_examples=300, deadline=None, suppress_health_check=_SLOW)
@given(data=st.data())
def test_each_documented_payload_is_bent(event: str, data: st.DataObject) -> None:
    """Three hundred bent ones of each event that Calendly documents: an event that keeps its schema, or a reason."""
    check_any([data.draw(bent_bodies(event))])
