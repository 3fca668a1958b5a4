"""Calls to Calendly of which no octet has left: they certainly had no effect."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import SecretStr

from slotwire.ingest.control.calendly_client import users
from slotwire.ingest.control.calendly_client.retries import CallRetries
from slotwire.ingest.errors import CalendlyError, CalendlyProblem
from slotwire.ingest.foundation.settings import CalendlySettings
from tests.support.scripted_calendly import TOKEN, ScriptedAnswer, connected, scripted_calendly


async def test_a_call_that_was_not_sent_says_so() -> None:
    """Where nobody listens, or its time is over, no octet has left; where the answer is lost, it may have."""
    async with scripted_calendly(ScriptedAnswer(200, {}), retries=CallRetries(attempts=1)) as (server, client):
        client.not_after = asyncio.get_running_loop().time()
        with pytest.raises(CalendlyError) as late:
            await client.post("/invitees", {}, users.UserResource, doing="booking")
        client.not_after += 60
        with pytest.raises(CalendlyError) as odd:
            await client.post("/invitees", {}, users.UserResource, doing="booking")
        assert ((late.value.sent, odd.value.sent), len(server.seen)) == ((False, True), 1)
    async with connected(
        CalendlySettings(api_url="http://127.0.0.1:9"), SecretStr(TOKEN), retries=CallRetries(attempts=1)
    ) as client:
        with pytest.raises(CalendlyError) as nobody:
            await client.post("/invitees", {}, users.UserResource, doing="booking")
        assert (nobody.value.problem, nobody.value.sent) == (CalendlyProblem.UNREACHABLE, False)
