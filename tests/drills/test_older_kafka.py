"""What holds on the embedded broker holds on the last Kafka 3, too: the oldest major version that is supported."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from slotwire.ingest.local.jars import kafka_version, read_jars
from tools.sources import ROOT

pytestmark = pytest.mark.drills

JARS = ROOT / "tests/drills/kafka-3-jars.txt"
FILES = ("test_topics.py", "test_relay.py", "test_handlers_consume.py", "test_stopped_agent.py")


def test_topics_relay_and_agents_work_on_kafka_3() -> None:
    """Making topics, publishing in transactions, taking over, consuming, dead letters, moving a group: every test."""
    assert kafka_version(read_jars(JARS.read_text())).startswith("3.")
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--numprocesses=2", "--dist=loadfile", f"--kafka-jars={JARS}"),
            *(f"tests/integration/{name}" for name in FILES),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-4_000:]
    told = re.search(r"(\d+) passed", ran.stdout)
    assert told is not None
    assert int(told[1]) > 40
