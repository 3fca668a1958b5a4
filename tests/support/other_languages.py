"""Programs of a how-to that read events with stock clients, run on a topic of a test's own."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from aiokafka import TopicPartition

from tests.support.agent_setup import AgentSetup, reading, transactional
from tools.sources import ROOT

HOWTO = ROOT / "docs" / "howto" / "read-events-in-another-language.md"
SCHEMAS = ROOT / "schemas" / "jsonschema"
EXAMPLES = ROOT / "schemas" / "examples"
SECONDS = 120.0


def program(language: str) -> str:
    """Return the page's program in a language."""
    [found] = re.findall(rf"^```{language}\n(.*?)^```$", HOWTO.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(found)


async def publish_one_of_each(setup: AgentSetup) -> list[str]:
    """Publish an event of every type into one topic, after a transaction that is aborted; return their lines."""
    records = [json.loads(path.read_bytes()) for path in sorted(EXAMPLES.glob("*.json"))]
    async with transactional(setup.settings.kafka.bootstrap_servers) as producer:
        for sent in (records[:2], records):
            await producer.begin_transaction()
            for record in sent:
                headers = [(name, value.encode()) for name, value in record["headers"].items()]
                await producer.send(setup.topic, json.dumps(record["value"]).encode(), b"one key", headers=headers)
            await (producer.commit_transaction() if sent is records else producer.abort_transaction())
    return [" ".join(record["headers"][f"ce_{name}"] for name in ("type", "id", "source")) for record in records]


async def last_is_committed(setup: AgentSetup) -> bool:
    """Whether the program's group goes on behind the last record that it printed."""
    async with reading(setup.settings.kafka.bootstrap_servers) as consumer:
        places = [TopicPartition(setup.topic, number) for number in range(setup.settings.kafka.partitions)]
        ends = await consumer.end_offsets(places)
    committed = await setup.committed(f"{setup.topic}.others")
    [(place, end)] = [(place, end) for place, end in ends.items() if end]
    return bool(committed[place.partition] == end - 1)  # the marker of the transaction comes behind it


async def read_with(setup: AgentSetup, words: Sequence[str], count: int, *, cwd: Path) -> list[str]:
    """Run a program until it has printed so many lines and stopped; return what it printed."""
    env = {
        "PATH": os.defpath,
        "KAFKA": setup.settings.kafka.bootstrap_servers,
        "TOPIC": setup.topic,
        "GROUP": f"{setup.topic}.others",
        "SCHEMAS": str(SCHEMAS),
    }
    child = await asyncio.create_subprocess_exec(
        *words, cwd=cwd, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    try:
        async with asyncio.timeout(SECONDS):
            lines = [(await child.stdout.readline()).decode().strip() for _ in range(count)]
            child.terminate()
            rest, errors = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
    assert child.returncode == 0, errors.decode()
    return [*lines, *rest.decode().splitlines()]
