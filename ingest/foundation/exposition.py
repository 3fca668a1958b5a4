"""How metrics are kept and shown: which process shows which, and readings that vanish when they are too old.

A process shows what is its own and nothing else: a zero that it does not know would be read as one that it does. And a
reading that was not repeated in time is not shown, so that no gauge freezes while the call behind it hangs.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from time import monotonic
from typing import Literal

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

Process = Literal["serve", "relay", "control", "agents", "mcp"]
PROCESSES: tuple[Process, ...] = ("serve", "relay", "control", "agents", "mcp")

REGISTRY = CollectorRegistry()
"""Every metric, whichever process shows it: what tests and the generated reference read."""
EXPORTED: Mapping[str, CollectorRegistry] = {process: CollectorRegistry() for process in PROCESSES}
"""The metrics of each process."""


class _Shelf(CollectorRegistry):
    """Where a declared metric is put: on the list of all, and on those of the processes that show it."""

    def __init__(self, processes: Sequence[Process]) -> None:
        super().__init__()
        self._processes = processes

    def register(self, collector: Collector) -> None:
        for registry in (REGISTRY, *(EXPORTED[process] for process in self._processes)):
            registry.register(collector)


def of(*processes: Process) -> CollectorRegistry:
    """Return the `registry` of a metric that these processes show."""
    return _Shelf(processes)


class Readings(Collector):
    """A gauge whose values are read somewhere now and then. One that was not read again in time is not shown."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labelnames: Sequence[str] = (),
        *,
        fresh_seconds: float,
        registry: CollectorRegistry,
        now: Callable[[], float] = monotonic,
    ) -> None:
        """Declare it.

        Args:
            name: as Prometheus shows it.
            documentation: for the reference.
            labelnames: of its labels.
            fresh_seconds: how long a value is shown after it was read, unless its reader says otherwise.
            registry: from `of`.
            now: the monotonic time.
        """
        self._name, self._documentation, self._labelnames = name, documentation, tuple(labelnames)
        self._fresh_seconds, self._now = fresh_seconds, now
        self._values: dict[tuple[str, ...], tuple[float, float]] = {}
        registry.register(self)

    def set(self, value: float, *labels: str, fresh_seconds: float | None = None) -> None:
        """Show a value that was read just now."""
        until = self._now() + (self._fresh_seconds if fresh_seconds is None else fresh_seconds)
        self._values[labels] = (value, until)

    def replace(self, values: Mapping[tuple[str, ...], float], *, fresh_seconds: float | None = None) -> None:
        """Show these values by their labels, and no others."""
        self._values.clear()
        for labels, value in values.items():
            self.set(value, *labels, fresh_seconds=fresh_seconds)

    def remove(self, *labels: str) -> None:
        """Show the value of these labels no more: it is somebody else's now."""
        self._values.pop(labels, None)

    def clear(self) -> None:
        """Show nothing."""
        self._values.clear()

    def describe(self) -> Iterator[Metric]:
        """Name it, without values."""
        yield GaugeMetricFamily(self._name, self._documentation, labels=self._labelnames)

    def collect(self) -> Iterator[Metric]:
        """Yield the values that are fresh."""
        family = GaugeMetricFamily(self._name, self._documentation, labels=self._labelnames)
        now = self._now()
        for labels, (value, until) in self._values.items():
            if now <= until:
                family.add_metric(labels, value)
        yield family


class _Build(Collector):
    """Says which process is asked, and of which version."""

    _labelnames = ("process", "version", "python")

    def __init__(self, *processes: Process) -> None:
        self._processes = processes

    def collect(self) -> Iterator[Metric]:
        """Yield one line for each process."""
        family = InfoMetricFamily(
            "slotwire_build", "The process that is asked, its version and that of Python. Always 1.", labels=["process"]
        )
        told = {"version": version("slotwire"), "python": platform.python_version()}
        for process in self._processes:
            family.add_metric([process], told)
        yield family


disable_created_metrics()  # type: ignore[no-untyped-call]  # when a counter was made: nobody asks, and it doubles what is scraped
REGISTRY.register(_Build(*PROCESSES))
for _process in PROCESSES:
    EXPORTED[_process].register(_Build(_process))
    ProcessCollector(registry=EXPORTED[_process])


def shown_by(metric: str) -> tuple[Process, ...]:
    """Return the processes that show a metric, by its name in `REGISTRY`."""
    return tuple(process for process in PROCESSES if any(metric == each.name for each in EXPORTED[process].collect()))


def exposition(process: Process) -> bytes:
    """Write what a process shows, in Prometheus' text format."""
    return generate_latest(EXPORTED[process])
