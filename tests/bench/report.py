"""The result: targets, tables for people, JSON for machines."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.acks import CONNECTIONS, NAMES, Acks, Name, Round
from tests.bench.backfill import LIVE_RATE, BackfillWay
from tests.bench.chain import Spans
from tests.bench.drain import Drain
from tests.bench.idle import Idle, IdleCost
from tests.bench.latency import STEADY_RATE, Latency
from tests.bench.listings import Listings
from tests.bench.neighbours import Neighbours
from tests.bench.stages import Stages
from tests.bench.sustained import Sustained

MANY = max(CONNECTIONS)
OTHERS: tuple[Name, ...] = ("bare", "grouped", "naive")
TARGETS: dict[tuple[Name, int], float] = {("grouped", 1): 0.7, ("grouped", MANY): 0.9, ("naive", MANY): 3.0}
"""At so many connections Slotwire's rate is at least so many times the other's."""
SUSTAINED = 1.5
"""Deliveries a second in Kafka, over the naive service's."""
BESIDE_BACKFILL = 1.5
"""A live delivery's way beside a backfill, at the median, over the quiet one."""
HANDLER_MS = 20.0
STEADY_MS = 30.0
"""Webhook to handler, at the median; shown, not enforced: it depends on the machine. So does the next."""
LIST_MS = 100.0
"""A list over two million events; shown, not enforced."""
DRAIN_RATE = 2_000
"""Deliveries of a backlog a second."""
BUSY_CLIENT = 0.9
"""A client that used more of its core was itself the limit."""
BESIDE_WORST = 1.2
"""Answers beside another organization's worst bodies, over those beside its usual ones: p50 and p99."""
WORDS: dict[Name, str] = {
    "slotwire": "Slotwire",
    "bare": "bare endpoint",
    "grouped": "bare, stored in groups",
    "naive": "naive service",
}


@dataclass(slots=True)
class Results:
    """What was measured; a part that was not asked for, or could not be measured, is None.

    Attributes:
        unmeasured: the parts that could not be measured, with the reason.
    """

    acks: Acks | None = None
    latency: Latency | None = None
    sustained: Sustained | None = None
    drain: Drain | None = None
    backfill: BackfillWay | None = None
    idle: Idle | None = None
    stages: Stages | None = None
    listings: Listings | None = None
    neighbours: Neighbours | None = None
    unmeasured: list[str] = field(default_factory=list)

    @property
    def missed(self) -> list[str]:
        """The stated ratios that were missed, in words."""
        found = []
        for (other, connections), least in TARGETS.items() if self.acks else ():
            ratio = statistics.median(self.acks.ratios(other, connections)) if self.acks else 0.0
            if ratio < least:
                found.append(f"at {connections} connections {ratio:.2f} x {WORDS[other]}, the target is {least}")
        if self.sustained is not None and self.sustained.ratio < SUSTAINED:
            found.append(f"sustained to Kafka {self.sustained.ratio:.2f} x {WORDS['naive']}, the target is {SUSTAINED}")
        if self.backfill is not None and self.backfill.ratio > BESIDE_BACKFILL:
            found.append(f"beside a backfill {self.backfill.ratio:.2f} x the quiet way, the limit is {BESIDE_BACKFILL}")
        if self.neighbours is not None and (ratio := max(self.neighbours.ratios)) > BESIDE_WORST:
            found.append(f"beside the worst bodies {ratio:.2f} x beside usual ones, the limit is {BESIDE_WORST}")
        return found

    def as_json(self) -> dict[str, Any]:
        """Return everything as one object."""
        return {
            "acks": _acks_json(self.acks) if self.acks else None,
            "latency_ms": asdict(self.latency) if self.latency else None,
            "sustained": asdict(self.sustained) | {"ratio": self.sustained.ratio} if self.sustained else None,
            "drain": asdict(self.drain) if self.drain else None,
            "backfill_ms": asdict(self.backfill) | {"ratio": self.backfill.ratio} if self.backfill else None,
            "idle_ms_per_second": asdict(self.idle)["cpu"] if self.idle else None,
            "idle_held": asdict(self.idle)["held"] if self.idle else None,
            "stages_us": asdict(self.stages) if self.stages else None,
            "listings_ms": asdict(self.listings) if self.listings else None,
            "neighbours": asdict(self.neighbours) if self.neighbours else None,
            "missed": self.missed,
            "unmeasured": self.unmeasured,
        }


def show(results: Results, console: Console) -> None:
    """Print the tables."""
    if results.acks is not None:
        console.print(_acks_table(results.acks))
        console.print(_ratios_table(results.acks))
        _say_acks(results.acks, console)
    if results.latency is not None or results.backfill is not None:
        console.print(_latency_table(results.latency, results.backfill))
    if results.sustained is not None or results.drain is not None:
        console.print(_kafka_table(results.sustained, results.drain))
    if results.idle is not None:
        console.print(_idle_table(results.idle))
    if results.stages is not None:
        console.print(_stages_table(results.stages))
    if results.listings is not None:
        console.print(_listings_table(results.listings))
    if results.neighbours is not None:
        console.print(_neighbours_table(results.neighbours))
        console.print(_costs_table(results.neighbours))
    for line in results.unmeasured:
        console.print(f"[bold red]not measured:[/] {line}")
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
        "accepted": acks.accepted,
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
            least = TARGETS.get((other, connections))
            stated = f"≥ {least}" if least else ""
            table.add_row(WORDS[other], str(connections), _spread(acks.ratios(other, connections), "{:.2f}"), stated)
    return table


def _say_acks(acks: Acks, console: Console) -> None:
    pools = ", ".join(f"{size}: {rate:,.0f}/s" for size, rate in acks.pools.items())
    console.print(f"The naive service's pool: {acks.pool}, the best of {pools}.")
    console.print(f"Slotwire acknowledged {acks.acknowledged:,} deliveries, and has {acks.accepted:,} of them.")
    measured = [each.measured for rounds in acks.rounds.values() for each in rounds]
    if max(each.client_cpu for each in measured) > BUSY_CLIENT:
        console.print("[yellow]The client used nearly a whole core in some round: it may have been the limit.")
    if any(each.ran_out for each in measured):
        console.print("[yellow]A round ended early because its requests were all sent; its rate is still right.")


def _latency_table(latency: Latency | None, backfill: BackfillWay | None) -> Table:
    table = Table(title="Webhook → Postgres → Kafka → handler, ms", title_justify="left")
    table.add_column("")
    for name in ("deliveries", "answer p50", "answer p99", "handler p50", "handler p99", "target"):
        table.add_column(name, justify="right")
    if latency is not None:
        table.add_row("one at a time, idle stack", *_spans(latency.idle), f"p50 ≤ {HANDLER_MS:g}")
        table.add_row(f"steady {STEADY_RATE}/s", *_spans(latency.steady), f"p50 ≤ {STEADY_MS:g}")
    if backfill is not None:
        table.add_row(f"live {LIVE_RATE:g}/s, quiet", *_spans(backfill.quiet), "")
        words = f"live {LIVE_RATE:g}/s, beside a backfill at {backfill.rate:,.0f}/s"
        table.add_row(words, *_spans(backfill.beside), f"p50 ≤ {BESIDE_BACKFILL} x quiet, is {backfill.ratio:.2f}")
    return table


def _listings_table(listings: Listings) -> Table:
    title = f"The slowest of {listings.lists} lists over {listings.events:,} events, ms, at most {LIST_MS:g}"
    table = Table(title=title, title_justify="left")
    table.add_column("list")
    table.add_column("ms", justify="right")
    for took, path in listings.slowest:
        table.add_row(path, f"{took:.1f}")
    return table


def _kafka_table(sustained: Sustained | None, drain: Drain | None) -> Table:
    table = Table(title="To Kafka, deliveries a second", title_justify="left")
    table.add_column("")
    for name in ("acks", "published", "until all are", "lag at half, at the end", "target", "CPU µs"):
        table.add_column(name, justify="right")
    if sustained is not None:
        flow, naive = sustained.slotwire, sustained.naive
        table.add_row(
            *("sustained", f"{flow.acks:,.0f}", f"{flow.published:,.0f}", f"{flow.through:,.0f}"),
            *(f"{flow.lag[0]:,}, {flow.lag[1]:,}", f"≥ {SUSTAINED} x naive, is {sustained.ratio:.2f}"),
            _used(flow.cpu),
        )
        rates = f"{naive[0]:,.0f}, {naive[1]:,.0f}"
        table.add_row("naive service, before and after", rates, rates, rates, "0", "", "")
    if drain is not None:
        words = f"drain of {drain.deliveries:,}"
        table.add_row(words, "", "", f"{drain.rate:,.0f}", "", f"≥ {DRAIN_RATE:,}", _used(drain.cpu))
    return table


def _used(cpu: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {each:,.0f}" for name, each in cpu.items())


def _idle_table(idle: Idle) -> Table:
    table = Table(title="Nothing arrives", title_justify="left")
    for name in ("", "ms of CPU a second", "MiB", "grown", "connections", "new ones"):
        table.add_column(name, justify="right")
    for name, spent in idle.cpu.items():
        held = idle.held.get(name)
        row = ("", "", "", "") if held is None else _held(held)
        table.add_row(name, f"{spent:.1f}", *row)
    return table


def _held(held: IdleCost) -> tuple[str, ...]:
    return (f"{held.rss_mib:.0f}", f"{held.grown_mib:+.1f}", str(held.connections), str(held.opened))


def _spans(spans: Spans) -> tuple[str, ...]:
    times = (spans.answer_p50, spans.answer_p99, spans.handler_p50, spans.handler_p99)
    return (str(spans.deliveries), *(f"{each:.1f}" for each in times))


def _neighbours_table(found: Neighbours) -> Table:
    title = (
        f"B beside A's bodies ({found.usual_sent:,} usual and {found.worst_sent:,} of the worst answered):"
        f" ms, p50 and p99; the limit for answers is {BESIDE_WORST} x"
    )
    table = Table(title=title, title_justify="left")
    for name in ("", "deliveries", "answer", "p99", "in the log", "p99"):
        table.add_column(name, justify="right")
    for name, way in (("quiet", found.quiet), ("usual", found.usual), ("worst", found.worst)):
        times = (way.answer_p50, way.answer_p99, way.settled_p50, way.settled_p99)
        table.add_row(name, str(way.deliveries), *(f"{each:.1f}" for each in times))
    table.add_row("worst / usual", "", *(f"{each:.2f}" for each in found.ratios), "", "")
    return table


def _costs_table(found: Neighbours) -> Table:
    table = Table(title="The bodies of A", title_justify="left")
    table.add_column("body")
    for name in ("bytes", "parts", "CPU ms", "bytes of events", "x"):
        table.add_column(name, justify="right")
    for each in found.costs:
        factor = f"{each.event_bytes / each.body_bytes:.1f}"
        row = (f"{each.body_bytes:,}", f"{each.parts:,}", f"{each.cpu_ms:.1f}", f"{each.event_bytes:,}", factor)
        table.add_row(each.name, *row)
    return table


def _stages_table(stages: Stages) -> Table:
    table = Table(title="CPU a delivery of 1.9 KB", title_justify="left")
    table.add_column("stage")
    for name in ("µs", "x orjson.loads"):
        table.add_column(name, justify="right")
    words = {
        "parse": "orjson.loads alone",
        "verify": "serve: verify, row",
        "encode": "encode events, results, bookings",
    }
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
