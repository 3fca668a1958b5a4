"""How long lists take over a long and uneven history: every list with every mixture of its filters, over HTTP."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode

from slotwire.ingest.local.databases import create_database, migrate_template
from slotwire.ingest.local.stack import Stack
from tests.bench.stage import BenchError
from tests.support.history import PATHS, History, list_queries, write_history
from tests.support.management_api import management_api
from tests.support.public_endpoint import settings_for

TIMES = 5
"""Each list is asked for so often, after once that does not count; the median is taken."""
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Listings:
    """Milliseconds from the request to its answer, a page of 50.

    Attributes:
        events: of the history.
        lists: how many lists, each with other filters.
        slowest: the slowest of them, each at its median, with its address.
    """

    events: int
    lists: int
    slowest: tuple[tuple[float, str], ...]


async def measure_listings(stack: Stack, *, events: int, say: Callable[[str], None]) -> Listings:
    """Make a history in the server, then ask for every list.

    Raises:
        BenchError: a list is refused.
    """
    await migrate_template(stack.postgres)
    database = await create_database(stack.postgres)
    say(f"making a history of {events:,} events")
    await write_history(
        database.owner_url, History(events, organizations=500, days=90, changes=events // 20, others=events // 20)
    )
    took: list[tuple[float, str]] = []
    async with management_api(settings_for(database)) as api:
        key = await api.key()
        for name, query in list_queries():
            filters = query.model_dump(mode="json", exclude_none=True)
            path = f"/v1/{PATHS.get(name, name)}?{urlencode(filters).lower()}"
            times = []
            for _ in range(1 + TIMES):
                began = time.perf_counter()
                answer = await api.ask("GET", path, key)
                times.append((time.perf_counter() - began) * 1_000)
                if answer.status_code != 200:
                    raise BenchError(f"{path} was answered {answer.status_code}: {answer.text}")
            took.append((statistics.median(times[1:]), path))
    took.sort(reverse=True)
    say(f"lists over {events:,} events: the slowest of {len(took)} takes {took[0][0]:.1f} ms: {took[0][1]}")
    return Listings(events, len(took), tuple(took[:SHOWN]))
