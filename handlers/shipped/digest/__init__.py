"""What a digest says, and how: the parts of the agent `nightly_digest`.

configuration  what an organization says about its digests
days           moments and days in a time zone (pure)
plan           which digests are due, and what is remembered of those sent (pure)
selection      what was read of bookings, as facts (pure)
facts          what a digest says
words          what strangers typed, made harmless (pure)
page           facts in words, with what was typed marked as typed (pure)
text           a page as plain text (pure)
html           a page as HTML (pure)
delivery       to a file, a receiver or a reader of mail
"""

from __future__ import annotations

from slotwire.handlers.shipped.digest.facts import DigestFacts, RenderedDigest
from slotwire.handlers.shipped.digest.html import html_of
from slotwire.handlers.shipped.digest.page import page_of
from slotwire.handlers.shipped.digest.text import text_of

__all__ = ["rendered"]


def rendered(facts: DigestFacts) -> RenderedDigest:
    """Put a digest into words: facts in, subject, text and HTML out. Pure."""
    page = page_of(facts)
    return RenderedDigest(page.subject, text_of(page), html_of(page))
