"""Metrics, kept and shown: each process shows its own, and a reading that was not repeated vanishes."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from slotwire.ingest.foundation.exposition import (
    EXPORTED,
    PROCESSES,
    Process,
    Readings,
    exposition,
    of,
    shown_by,
)
from slotwire.ingest.foundation.telemetry import REGISTRY
from tests.support.scraped import families, sample

OWN = {
    "serve": "slotwire_pending_deliveries",
    "relay": "slotwire_cross_tenant_total",
    "control": "slotwire_parked_events",
    "agents": "slotwire_consumer_stuck",
}


class Watch:
    """A monotonic clock in the test's hand."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        """Return its time."""
        return self.time


def readings(watch: Watch) -> tuple[Readings, CollectorRegistry]:
    """Declare readings that are fresh for ten seconds."""
    registry = CollectorRegistry()
    return Readings("test_waiting", "What waits.", ["shard"], fresh_seconds=10, registry=registry, now=watch), registry


def value(registry: CollectorRegistry, shard: str) -> float | None:
    """Read what is shown of a shard."""
    return registry.get_sample_value("test_waiting", {"shard": shard})


def test_a_reading_vanishes_when_it_was_not_repeated_in_time() -> None:
    """It is shown up to its limit, not past it, and again once it is read again."""
    watch = Watch()
    shown, registry = readings(watch)
    shown.set(3, "0")
    watch.time += 10
    assert value(registry, "0") == 3
    watch.time += 0.001
    assert value(registry, "0") is None
    shown.set(0, "0")
    assert value(registry, "0") == 0


def test_each_reading_has_a_time_of_its_own() -> None:
    """One that is read goes on while its neighbour, which is not, vanishes; its reader may say how long it is fresh."""
    watch = Watch()
    shown, registry = readings(watch)
    shown.set(1, "0")
    shown.set(2, "1", fresh_seconds=60)
    watch.time += 60
    assert (value(registry, "0"), value(registry, "1")) == (None, 2)


def test_what_is_no_longer_read_is_forgotten() -> None:
    """New values take the place of all old ones; what was removed is not shown; and nothing can be left."""
    shown, registry = readings(Watch())
    shown.replace({("0",): 1, ("1",): 2})
    shown.replace({("1",): 5, ("2",): 6})
    assert [value(registry, shard) for shard in "012"] == [None, 5, 6]
    shown.remove("1")
    shown.remove("7")
    assert [value(registry, shard) for shard in "012"] == [None, None, 6]
    shown.clear()
    assert value(registry, "2") is None


def test_every_metric_is_shown_by_some_process() -> None:
    """A metric that was declared and put on no process's list would be counted and never seen."""
    assert not [metric.name for metric in REGISTRY.collect() if not shown_by(metric.name)]


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_shows_its_own_and_says_which_it_is(process: Process) -> None:
    """It shows itself as the process that it is, what the kernel knows of it, and nothing of another's."""
    text = exposition(process).decode()
    assert [line.count(f'process="{process}"') for line in text.splitlines() if "slotwire_build_info{" in line] == [1]
    assert (sample(text, "process_open_fds") or 0) > 0
    for other, name in OWN.items():
        assert (name in families(text)) == (other == process), name
    assert not [name for name in families(text) if name.endswith("_created")]


def test_a_metric_is_put_on_the_lists_that_it_names() -> None:
    """Declared for two processes, it is shown by these two."""
    Readings("test_two", "Of two.", fresh_seconds=1, registry=of("serve", "agents"))
    try:
        assert shown_by("test_two") == ("serve", "agents")
    finally:
        for registry in (REGISTRY, EXPORTED["serve"], EXPORTED["agents"]):
            registry.unregister(next(each for each in registry._collector_to_names if _named(each, "test_two")))


def _named(collector: object, name: str) -> bool:
    return isinstance(collector, Readings) and collector._name == name
