"""The topics of `slotwire local`: made again and again until the broker, which has only just started, answers."""

from __future__ import annotations

import asyncio

from slotwire.ingest.errors import BrokerUnavailable
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.ingest.foundation.topic_admin import ensure_topics
from slotwire.ingest.local.jars import Report

TOPICS_SECONDS = 180.0
"""How long a busy machine may take, beside the try that runs then."""
AGAIN_SECONDS = 1.0


async def make_topics(
    settings: KafkaSettings, report: Report, *, seconds: float = TOPICS_SECONDS, again: float = AGAIN_SECONDS
) -> None:
    """Make the missing topics.

    Args:
        settings: the broker, and the configuration of new topics.
        report: is told of each try that failed.
        seconds: how long it is tried.
        again: the pause between two tries.

    Raises:
        BrokerUnavailable: the broker did not answer all that time.
        ConfigurationError: the topics are there in another form.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while True:
        try:
            await ensure_topics(settings)
        except BrokerUnavailable as problem:
            if loop.time() >= until:
                raise
            report(f"the topics are not made yet, and are tried again: {problem.message}")
            await asyncio.sleep(again)
        else:
            return
