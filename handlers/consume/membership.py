"""What a membership of a consumer group is to be."""

from __future__ import annotations

from dataclasses import dataclass

LOOK_SECONDS = 0.5
"""How often it is looked which scheduled work is due: how late a firing may begin."""
QUEUE_SECONDS = 1.0
"""How often the agent's queue is looked at: how late what is due may begin."""
REVOKE_GRACE_SECONDS = 4.0
"""How long running handlers may take to finish when partitions move. The whole group waits for us meanwhile."""


@dataclass(frozen=True)
class Membership:
    """Which agent joins which group for which topics.

    Attributes:
        agent: the agent's name.
        group: the consumer group's full name.
        topics: their full names.
        interval: seconds between two checks of progress.
        stuck_after: seconds of lag without progress after which the consumer is replaced.
        queue_interval: seconds between two looks at the agent's queue.
        look_interval: seconds between two looks at what scheduled work is due.
        move_grace: how long running handlers may take to finish before partitions move, in seconds.
        grace: how long running handlers may take to finish at a stop, in seconds; None: as the settings say.
    """

    agent: str
    group: str
    topics: tuple[str, ...]
    interval: float = 5.0
    stuck_after: float = 30.0
    queue_interval: float = QUEUE_SECONDS
    move_grace: float = REVOKE_GRACE_SECONDS
    look_interval: float = LOOK_SECONDS
    grace: float | None = None
