"""The how-to's Node program reads events with a stock client."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from slotwire.ingest.local.databases import Database
from tests.support.agent_setup import agent_setup
from tests.support.other_languages import HOWTO, last_is_committed, publish_one_of_each, read_with
from tests.support.other_languages import program as shown
from tools.drills import program

pytestmark = pytest.mark.drills


async def test_kafkajs_reads_every_type_once(
    database: Database, kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    """Every committed event is printed in order, valid by its schema, and none of an aborted transaction."""
    node, npm = program("node"), program("npm")
    [install] = [line for line in HOWTO.read_text(encoding="utf-8").splitlines() if line.startswith("npm install ")]
    (tmp_path / "package.json").write_text("{}")
    await asyncio.to_thread(
        subprocess.run, [npm, *install.split()[1:]], cwd=tmp_path, check=True, capture_output=True, timeout=180
    )
    (tmp_path / "consume.mjs").write_text(shown("js"))
    async with agent_setup(database, kafka_bootstrap, topic_prefix, partitions=2) as setup:
        expected = await publish_one_of_each(setup)
        words = (node, "consume.mjs")
        assert await read_with(setup, words, len(expected), cwd=tmp_path) == expected
        assert await last_is_committed(setup)
