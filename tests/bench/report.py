"""The result: targets, tables for people, JSON for machines."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.acks import CONNECTIONS, NAMES, Acks, Name, Round
from tests.bench.latency import STEADY_RATE, Latency, Spans
from tests.bench.stages import Stages

MANY = max(CONNECTIONS)
OTHERS: tuple[Name, ...] = ("bare", "grouped", "naive")
TARGETS: dict[Name, float] = {"bare": 0.3, "naive": 2.5}
"""At 64 connections Slotwire's rate is at least so many times the other's."""
HANDLER_MS = 25.0
"""Webhook to handler on the idle stack, at the median; shown, not enforced: it depends on the machine."""
BUSY_CLIENT = 0.9
"""A client that used more of its core was itself the limit."""
WORDS: dict[Name, str] = {
    "slotwire": "Slotwire",
    "bare": "bare endpoint",
    "grouped": "bare, stored in groups",
    "naive": "naive service",
}


@dataclass(frozen=True, slots=True)
class Results:
    """What was measured; a part that was not asked for is None."""

    acks: Acks | None
    latency: Latency | None
    stages: Stages | None

    @property
    def missed(self) -> list[str]:
        """The stated targets that were missed, in words."""
        if self.acks is None:
            return []
        found = []
        for other, least in TARGETS.items():
            ratio = statistics.median(self.acks.ratios(other, MANY))
            if ratio < least:
                found.append(f"at {MANY} connections {ratio:.2f} x the {WORDS[other]}, the target is {least}")
        return found

    def as_json(self) -> dict[str, Any]:
        """Return everything as one object."""
        return {
            "acks": _acks_json(self.acks) if self.acks else None,
            "latency_ms": asdict(self.latency) if self.latency else None,
            "stages_us": asdict(self.stages) if self.stages else None,
            "missed": self.missed,
        }


def show(results: Results, console: Console) -> None:
    """Print the tables."""
    if results.acks is not None:
        console.print(_acks_table(results.acks))
        console.print(_ratios_table(results.acks))
        _say_acks(results.acks, console)
    if results.latency is not None:
        console.print(_latency_table(results.latency))
    if results.stages is not None:
        console.print(_stages_table(results.stages))
    for line in results.missed:
        console.print(f"[bold red]target missed:[/] {line}")


def _acks_json(acks: Acks) -> dict[str, Any]:
    rounds = [
        {"contender": name, "connections": connections, "rounds": [asdict(each) for each in found]}
        for (name, connections), found in acks.rounds.items()
    ]
    ratios = [
        {"beside": other, "connections": connections, "ratios": acks.ratios(other, connections)}
        for connections in CONNECTIONS
        for other in OTHERS
    ]
    return {
        "acknowledged": acks.acknowledged,
        "stored": acks.stored,
        "naive_pool": acks.pool,
        "naive_rate_by_pool": {str(size): rate for size, rate in acks.pools.items()},
        "contenders": rounds,
        "ratios": ratios,
    }


def _acks_table(acks: Acks) -> Table:
    table = Table(title="Acknowledgements: median of the rounds (least-most)", title_justify="left")
    for name in ("", "connections"):
        table.add_column(name)
    for name in ("acks/s", "p50 ms", "p99 ms", "CPU µs: server", "Postgres", "Kafka", "client CPU"):
        table.add_column(name, justify="right", no_wrap=True)
    for connections in CONNECTIONS:
        for name in NAMES:
            rounds = acks.rounds[name, connections]
            table.add_row(
                WORDS[name],
                str(connections),
                _spread([each.measured.rate for each in rounds], "{:,.0f}"),
                _spread([each.measured.p50 for each in rounds], "{:.2f}"),
                _spread([each.measured.p99 for each in rounds], "{:.1f}"),
                _cpu(rounds, "server"),
                _cpu(rounds, "postgres"),
                _cpu(rounds, "kafka"),
                f"{statistics.median(each.measured.client_cpu for each in rounds):.0%}",
            )
        table.add_section()
    return table


def _ratios_table(acks: Acks) -> Table:
    table = Table(title="Slotwire's rate over the other's, of the same round each", title_justify="left")
    for name in ("beside", "connections"):
        table.add_column(name)
    for name in ("ratio", "target"):
        table.add_column(name, justify="right")
    for connections in CONNECTIONS:
        for other in OTHERS:
            stated = f"≥ {TARGETS[other]}" if connections == MANY and other in TARGETS else ""
            table.add_row(WORDS[other], str(connections), _spread(acks.ratios(other, connections), "{:.2f}"), stated)
    return table


def _say_acks(acks: Acks, console: Console) -> None:
    pools = ", ".join(f"{size}: {rate:,.0f}/s" for size, rate in acks.pools.items())
    console.print(f"The naive service's pool: {acks.pool}, the best of {pools}.")
    console.print(f"Slotwire acknowledged {acks.acknowledged:,} deliveries, and its log has {acks.stored:,} of them.")
    measured = [each.measured for rounds in acks.rounds.values() for each in rounds]
    if max(each.client_cpu for each in measured) > BUSY_CLIENT:
        console.print("[yellow]The client used nearly a whole core in some round: it may have been the limit.")
    if any(each.ran_out for each in measured):
        console.print("[yellow]A round ended early because its requests were all sent; its rate is still right.")


def _latency_table(latency: Latency) -> Table:
    table = Table(title="Webhook → Postgres → Kafka → handler, ms", title_justify="left")
    table.add_column("")
    for name in ("deliveries", "answer p50", "answer p99", "handler p50", "handler p99", "target"):
        table.add_column(name, justify="right")
    table.add_row("one at a time, idle stack", *_spans(latency.idle), f"p50 ≤ {HANDLER_MS:g}")
    table.add_row(f"steady {STEADY_RATE}/s", *_spans(latency.steady), "")
    return table


def _spans(spans: Spans) -> tuple[str, ...]:
    times = (spans.answer_p50, spans.answer_p99, spans.handler_p50, spans.handler_p99)
    return (str(spans.deliveries), *(f"{each:.1f}" for each in times))


def _stages_table(stages: Stages) -> Table:
    table = Table(title="CPU a delivery of 1.9 KB", title_justify="left")
    table.add_column("stage")
    for name in ("µs", "x orjson.loads"):
        table.add_column(name, justify="right")
    words = {"parse": "orjson.loads alone", "event": "normalize, encode the event", "join": "join, encode, arguments"}
    for name, cost in asdict(stages).items():
        table.add_row(words.get(name, name), f"{cost:.1f}", f"{cost / stages.parse:.1f}")
    return table


def _spread(values: Sequence[float], form: str) -> str:
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{form.format(middle)} ({form.format(least)}-{form.format(most)})"


def _cpu(rounds: Sequence[Round], name: str) -> str:
    """Show microseconds a request; a dash where the system does not tell (it is not Linux)."""
    if not any(each.cpu["server"] for each in rounds):
        return "-"
    return f"{statistics.median(each.cpu[name] for each in rounds):,.0f}"
