"""Paths at Calendly: whatever a URI holds, its path is what the URI says, or there is none."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from slotwire.ingest.control.calendly_client.resources import ORIGIN, path_to
from slotwire.ingest.errors import CalendlyError

PARTS = [
    "",
    ".",
    "..",
    "/",
    "\\",
    "%2e",
    "%2f",
    "@",
    ":",
    "?",
    "#",
    " ",
    "\n",
    "\x00",
    "A",
    "b-c",
    "_9",
    "invitees",
    "x",
]
URIS = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from([*PARTS, ORIGIN, f"{ORIGIN}/", "scheduled_events", "/scheduled_events/"])).map("".join),
    st.lists(st.sampled_from(PARTS), max_size=6).map(lambda parts: f"{ORIGIN}/scheduled_events/{''.join(parts)}"),
)
FORMS = {"": "/scheduled_events/[A-Za-z0-9_-]+", "invitees": "/scheduled_events/[A-Za-z0-9_-]+/invitees/[A-Za-z0-9_-]+"}


@given(uri=URIS, inner=st.sampled_from(list(FORMS)))
@example(uri="https://x/..", inner="")
@example(uri=f"{ORIGIN}/scheduled_events/..", inner="")
@example(uri=f"{ORIGIN}/scheduled_events/A\n", inner="")
def test_a_path_is_what_the_uri_says_or_there_is_none(uri: str, inner: str) -> None:
    """A URI of the form has the path that follows Calendly's address, letter by letter; anything else is refused."""
    good = re.fullmatch(re.escape(ORIGIN) + FORMS[inner], uri, re.ASCII) is not None
    try:
        path = path_to("scheduled_events", uri, inner)
    except CalendlyError:
        assert not good
    else:
        assert good
        assert ORIGIN + path == uri
