"""Order per key, keys concurrently. Pure: knows nothing of tasks, time or Kafka."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Lanes(Generic[K, T]):
    """One queue per key. At most the first item of each is in work.

    The caller that adds an item to an idle lane has to start it. The caller that finishes an item starts the next one.
    """

    def __init__(self) -> None:
        self._waiting: dict[K, deque[T]] = {}
        self._size = 0

    def __len__(self) -> int:
        """Count the items in work or waiting."""
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
        """Take the finished item off its lane.

        Returns:
            The next item of the lane, now in work, or None when the lane is idle.

        Raises:
            KeyError: no item of this key is in work.
        """
        waiting = self._waiting[key]
        self._size -= 1
        if waiting:
            return waiting.popleft()
        del self._waiting[key]
        return None

    def abandon(self, key: K) -> None:
        """Drop a lane with the item in work and all that wait. They will be delivered again.

        Raises:
            KeyError: no item of this key is in work.
        """
        self._size -= 1 + len(self._waiting.pop(key))
