"""What the relay says of itself: one line a shard for readiness, gauges for alarms, a log line at each change."""

from __future__ import annotations

from datetime import datetime, timedelta

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.foundation.telemetry import (
    RELAY_HOLDING,
    RELAY_LAG_EVENTS,
    RELAY_LAG_SECONDS,
    RELAY_LEADER,
    UNWRITTEN_BYTES,
    UNWRITTEN_SECONDS,
    WAITING,
    get_logger,
)
from slotwire.ingest.log.writer import WAITING_KINDS

REASONS = ("topic", "cursor", "broker", "refused", "database")
"""Why a relay holds; also the metric's labels."""

WRITE, PUBLISH = "write", "publish"
"""The two parts of a leader's work; either may have to wait while the other goes on."""

_log = get_logger("relay")


class RelayStatus:
    """Which shards flow, and why the others do not."""

    def __init__(self, fresh_seconds: float = 15.0) -> None:
        """Begin without the log.

        Args:
            fresh_seconds: how long what was read of backlog and lag is shown.
        """
        self._fresh_seconds = fresh_seconds
        self._holding: dict[tuple[int | None, str], tuple[str, str]] = {
            (None, PUBLISH): ("database", "the log has not been read yet")
        }
        self._told()

    async def problem(self) -> str | None:
        """Say what readiness shows: None when every shard flows here or is led by somebody else."""
        told = sorted((-1 if shard is None else shard, line) for (shard, _), (_, line) in self._holding.items())
        lines = list(dict.fromkeys(line if shard < 0 else f"shard {shard}: {line}" for shard, line in told))
        return "; ".join(lines) or None

    def hold(self, shard: int | None, reason: str, error: SlotwireError, *, part: str = PUBLISH) -> None:
        """A part of a shard's work waits, `write` or `publish`; None stands for the whole log."""
        first = error.remedy.partition("\n")[0]
        line = f"{error.message}. {first}" if first else error.message
        if self._holding.get((shard, part)) != (reason, line):
            _log.error("relay_holds", shard=shard, part=part, reason=reason, problem=error.message, remedy=error.remedy)
        self._holding[shard, part] = (reason, line)
        self._told()

    def flow(self, shard: int | None, *, part: str = PUBLISH) -> None:
        """A part of a shard's work goes on, or has nothing to do."""
        if self._holding.pop((shard, part), None) is not None and shard is not None:
            _log.info("relay_flows", shard=shard, part=part)
        self._told()

    def stand_by(self, shard: int) -> None:
        """Somebody else leads the shard, and tells its lag."""
        for part in (WRITE, PUBLISH):
            self._holding.pop((shard, part), None)
        self._told()
        for gauge in (RELAY_LAG_EVENTS, RELAY_LAG_SECONDS, UNWRITTEN_BYTES, UNWRITTEN_SECONDS):
            gauge.remove(str(shard))
        for kind in WAITING_KINDS:
            WAITING.remove(str(shard), kind)

    def lead(self, shard: int, *, leads: bool) -> None:
        """This process began or ceased to lead the shard."""
        RELAY_LEADER.labels(shard=str(shard)).set(int(leads))

    def lag(self, shard: int, events: int, since: datetime | None, now: datetime) -> None:
        """So many events wait, the oldest since then."""
        age = 0.0 if since is None else max(0.0, (now - since).total_seconds())
        RELAY_LAG_EVENTS.set(events, str(shard), fresh_seconds=self._fresh_seconds)
        RELAY_LAG_SECONDS.set(age, str(shard), fresh_seconds=self._fresh_seconds)

    def unwritten(self, shard: int, size: int, age: timedelta) -> None:
        """So many bytes are accepted and not written, the oldest for so long."""
        UNWRITTEN_BYTES.set(size, str(shard), fresh_seconds=self._fresh_seconds)
        UNWRITTEN_SECONDS.set(age.total_seconds(), str(shard), fresh_seconds=self._fresh_seconds)

    def _told(self) -> None:
        holding = {reason for reason, _ in self._holding.values()}
        for reason in REASONS:
            RELAY_HOLDING.labels(reason=reason).set(int(reason in holding))
