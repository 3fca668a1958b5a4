"""Where a process's log lines go, and in which form."""

from __future__ import annotations

import logging
import sys
from typing import Any

import orjson
import structlog

from slotwire.ingest.foundation.settings import LogSettings


def configure_logging(settings: LogSettings, *, process: str) -> None:
    """Set up structlog once, at the start of a process. Logs go to stderr."""
    renderer: Any
    factory: Any
    if settings.format == "json":
        renderer = structlog.processors.JSONRenderer(serializer=orjson.dumps)
        factory = structlog.BytesLoggerFactory(file=sys.stderr.buffer)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        factory = structlog.WriteLoggerFactory(file=sys.stderr)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
            if settings.format == "json"
            else structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(settings.level),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    # aiokafka repeats itself ten times a second while a broker is away; our own log events say what matters.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    structlog.contextvars.bind_contextvars(process=process)
