"""Calls of any operation: the answer as it came, and when a call is repeated."""

from __future__ import annotations

import pytest

from slotwire.ingest.errors import CalendlyError, CalendlyProblem
from tests.support.scripted_calendly import ScriptedAnswer, scripted_calendly

URI = "https://api.calendly.com/contacts/C"


@pytest.mark.parametrize(
    ("answer", "given"),
    [
        (ScriptedAnswer(200, {"resource": {"uri": URI, "new": [1]}}), {"resource": {"uri": URI, "new": [1]}}),
        (ScriptedAnswer(204), None),
        (ScriptedAnswer(202, {}), {}),
        (ScriptedAnswer(200, "Ada: hello", html=True), "Ada: hello"),
    ],
    ids=["a document", "nothing", "an empty object", "a text"],
)
async def test_an_answer_is_given_as_it_came(answer: ScriptedAnswer, given: object) -> None:
    """A document with fields that nobody knows, an empty answer, and a text such as a transcript."""
    async with scripted_calendly(answer) as (_, client):
        assert await client.exchange("GET", "/meeting_recaps/R/transcript", doing="reading") == given


async def test_a_website_in_calendlys_place_is_no_answer() -> None:
    """A page with 200, as a captive portal gives it, is refused."""
    async with scripted_calendly(ScriptedAnswer(200, "<html>sign in</html>", html=True)) as (_, client):
        with pytest.raises(CalendlyError) as caught:
            await client.exchange("GET", "/users/me", doing="reading")
    assert caught.value.problem is CalendlyProblem.UNEXPECTED


async def test_a_change_is_sent_again_only_where_it_had_no_effect() -> None:
    """A PATCH is repeated after a 429, never after a failure; a parameter with several values is repeated."""
    limited = ScriptedAnswer(429, {}, {"X-RateLimit-Reset": "0"})
    async with scripted_calendly(limited, ScriptedAnswer(200, {})) as (server, client):
        await client.exchange("PATCH", "/contacts/C", doing="changing", query={"actor": ["a", "b"]}, body={"city": "Y"})
        assert [each.method for each in server.seen] == ["PATCH"] * 2
        assert server.seen[0].query.getall("actor") == ["a", "b"]
        assert server.bodies == [b'{"city":"Y"}'] * 2
    async with scripted_calendly(ScriptedAnswer(500, {}), ScriptedAnswer(200, {})) as (server, client):
        with pytest.raises(CalendlyError):
            await client.exchange("PATCH", "/contacts/C", doing="changing", body={})
        assert len(server.seen) == 1
