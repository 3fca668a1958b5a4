"""Checks of the values in a request's body. Source: docs/reference/calendly.md, "REST"."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from aiohttp import web

from slotwire.ingest.simulator.gate import body_of
from slotwire.ingest.simulator.model import Json
from slotwire.ingest.simulator.paging import moment_of
from slotwire.ingest.simulator.problems import invalid

MAX_LABEL = 255


async def fields_of(request: web.Request, known: Collection[str], *, needs: Collection[str] = ()) -> Json:
    """Return a body that has only known fields, and all that are needed.

    Raises:
        SimulatedRefusal: 400.
    """
    body = await body_of(request)
    problems = [(name, "is missing") for name in needs if body.get(name) in (None, "", [])]
    problems += [(name, "is unknown") for name in body if name not in known]
    if problems:
        raise invalid(*problems)
    return body


def text_in(body: Mapping[str, object], name: str, most: int = MAX_LABEL) -> str:
    """Return a text of a bounded length.

    Raises:
        SimulatedRefusal: 400.
    """
    value = body.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        raise invalid((name, f"must be a string of 1 to {most} characters"))
    return value


def list_in(body: Mapping[str, object], name: str, most: int) -> list[object]:
    """Return a list of a bounded length; empty if it is missing.

    Raises:
        SimulatedRefusal: 400.
    """
    value = body.get(name) or []
    if not isinstance(value, list) or len(value) > most:
        raise invalid((name, f"must be a list of at most {most}"))
    return value


def span_of(request: web.Request, most: timedelta) -> tuple[datetime, datetime]:
    """Return the times between `start_time` and `end_time`.

    Raises:
        SimulatedRefusal: 400, one is missing, they are in the wrong order, or too far apart.
    """
    start, end = moment_of(request, "start_time"), moment_of(request, "end_time")
    if start is None or end is None:
        raise invalid(("start_time" if start is None else "end_time", "is missing"))
    if not start < end <= start + most:
        raise invalid(("end_time", f"must be after start_time by at most {most.days} days"))
    return start, end
