"""The how-to's Python program reads events with a stock client."""

from __future__ import annotations

import sys
from pathlib import Path

from slotwire.ingest.local.databases import Database
from tests.support.agent_setup import agent_setup
from tests.support.other_languages import last_is_committed, program, publish_one_of_each, read_with


async def test_confluent_kafka_reads_every_type_once(
    database: Database, kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    """Every committed event is printed in order, valid by its schema, and none of an aborted transaction."""
    (tmp_path / "consume.py").write_text(program("python"))
    async with agent_setup(database, kafka_bootstrap, topic_prefix, partitions=2) as setup:
        expected = await publish_one_of_each(setup)
        words = (sys.executable, "consume.py")
        assert await read_with(setup, words, len(expected), cwd=tmp_path) == expected
        assert await last_is_committed(setup)
