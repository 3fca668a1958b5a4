"""Decides whether a consumer makes progress. Pure: time and offsets are arguments.

An aiokafka consumer can fall silent after it lost its membership or its broker (aiokafka issues 625, 847 and 1037): it
raises nothing and returns no more records. The visible sign is lag without progress.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from slotwire.handlers.records import Partition


class Watch:
    """Notices when there are records to read and room for them, and the position does not move."""

    def __init__(self, stuck_after: float, *, now: float) -> None:
        """Begin to watch.

        Args:
            stuck_after: seconds without progress after which the consumer is stuck.
            now: the monotonic time.
        """
        self._stuck_after = stuck_after
        self._positions: dict[Partition, tuple[int, float]] = {}
        self._answered = now
        self._assigned = now

    def look(
        self,
        now: float,
        *,
        ends: Mapping[Partition, int] | None,
        positions: Mapping[Partition, int],
        rooms: Collection[Partition],
        assigned: bool,
    ) -> str | None:
        """Compare offsets and positions with those of the last call.

        Args:
            now: the monotonic time.
            ends: the last stable offset of each of our partitions; None when the broker did not answer.
            positions: the offset at which reading continues in each partition, where known.
            rooms: the partitions with room for more records.
            assigned: whether we have an assignment from the group; an empty one counts.

        Returns:
            None while there is progress, else what is wrong, in words.
        """
        if assigned:
            self._assigned = now
        elif now - self._assigned >= self._stuck_after:
            return f"a rebalance has not ended for {now - self._assigned:.0f} s"
        if ends is None:
            silent = now - self._answered
            return f"the broker has not answered for {silent:.0f} s" if silent >= self._stuck_after else None
        self._answered = now
        self._positions = {key: value for key, value in self._positions.items() if key in ends}
        for partition, end in ends.items():
            position = positions.get(partition, -1)
            before, since = self._positions.get(partition, (None, now))
            if position != before or position >= end or partition not in rooms:
                self._positions[partition] = (position, now)
            elif now - since >= self._stuck_after:
                return f"{partition.topic}/{partition.number} has been at {position} of {end} for {now - since:.0f} s"
        return None
