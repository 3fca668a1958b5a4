"""What several files of these tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from slotwire.ingest.operate.admin_api import Limits
from tests.support.database_pool import DatabasePool
from tests.support.populated_api import PopulatedApi, populated_api

MANY = 100_000
"""Bad keys that the shared API refuses at once: their slowing down has tests of its own."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_api(database_pool: DatabasePool) -> AsyncIterator[PopulatedApi]:
    """Something behind each route, for those tests of a file that leave it as it is.

    They add keys and refusals, and what belongs to other organizations. They need `IN_ONE_LOOP`.
    """
    database = await database_pool.borrow()
    async with populated_api(database, "shared", Limits(refusals=MANY)) as found:
        yield found
    await database_pool.give_back(database)
