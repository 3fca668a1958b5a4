"""Order per key, keys side by side. Pure: knows nothing of tasks, time or Kafka."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Lanes(Generic[K, T]):
    """A queue a key, of which at most the head is at work.

    Whoever adds the first item of an idle lane has to work it; whoever finishes an item works the next one.
    """

    def __init__(self) -> None:
        self._waiting: dict[K, deque[T]] = {}
        self._size = 0

    def __len__(self) -> int:
        """Count the items at work or waiting."""
        return self._size

    @property
    def keys(self) -> int:
        """Count the lanes with work."""
        return len(self._waiting)

    def add(self, key: K, item: T) -> bool:
        """Put an item at the end of its lane.

        Returns:
            Whether the lane was idle: the caller has to start this item now.
        """
        self._size += 1
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = deque()
            return True
        waiting.append(item)
        return False

    def finish(self, key: K) -> T | None:
        """Take the item at work off its lane.

        Returns:
            The next item of the lane, now at work, or None when the lane is idle.

        Raises:
            KeyError: nothing of this key is at work.
        """
        waiting = self._waiting[key]
        self._size -= 1
        if waiting:
            return waiting.popleft()
        del self._waiting[key]
        return None

    def abandon(self, key: K) -> None:
        """Drop a lane: what is at work in it and what waits. It will be delivered again.

        Raises:
            KeyError: nothing of this key is at work.
        """
        self._size -= 1 + len(self._waiting.pop(key))
