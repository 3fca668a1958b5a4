"""Whether a consumer makes progress. Pure: it is told the time and the offsets.

A consumer of aiokafka's may fall silent after it lost its membership or its broker (its issues 625, 847 and
1037): nothing is raised, nothing comes any more. What is visible is lag without progress.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from slotwire.handlers.records import Partition


class Watch:
    """Notices when there is something to read, room for it, and nothing moves."""

    def __init__(self, stuck_after: float, *, now: float) -> None:
        """Begin to watch.

        Args:
            stuck_after: seconds without progress that are too many.
            now: the monotonic time.
        """
        self._stuck_after = stuck_after
        self._positions: dict[Partition, tuple[int, float]] = {}
        self._well = now
        self._owned = now

    def look(
        self,
        now: float,
        *,
        ends: Mapping[Partition, int] | None,
        positions: Mapping[Partition, int],
        rooms: Collection[Partition],
        assigned: bool,
    ) -> str | None:
        """Compare with the last look.

        Args:
            now: the monotonic time.
            ends: the last stable offset of each partition that is ours; None when the broker did not say.
            positions: where reading goes on, as far as it is known.
            rooms: the partitions that have room for more.
            assigned: whether the group has given us an assignment, an empty one included.

        Returns:
            None while all is well, else what is wrong, in words.
        """
        if assigned:
            self._owned = now
        elif now - self._owned >= self._stuck_after:
            return f"a rebalance has not ended for {now - self._owned:.0f} s"
        if ends is None:
            silent = now - self._well
            return f"the broker has not answered for {silent:.0f} s" if silent >= self._stuck_after else None
        self._well = now
        self._positions = {key: value for key, value in self._positions.items() if key in ends}
        for partition, end in ends.items():
            position = positions.get(partition, -1)
            before, since = self._positions.get(partition, (None, now))
            if position != before or position >= end or partition not in rooms:
                self._positions[partition] = (position, now)
            elif now - since >= self._stuck_after:
                return f"{partition.topic}/{partition.number} has stood at {position} of {end} for {now - since:.0f} s"
        return None
