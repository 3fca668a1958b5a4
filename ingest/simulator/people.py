"""Invented names, addresses and answers. Every mail address ends in example.com."""

from __future__ import annotations

from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.model import BookingAnswer

GIVEN = (
    "Robin",
    "Zoë",
    "Sam",
    "Noor",
    "Kim",
    "Alex",
    "Jules",
    "Mika",
    "Sascha",
    "Toni",
    "René",
    "Charlie",
    "Yuki",
    "Luca",
    "Ariel",
    "Sól",
)
FAMILY = ("Sample", "Example", "Placeholder", "Specimen", "Testcase", "Mockup", "Prototype", "Draft")
TIMEZONES = (
    "Europe/Berlin",
    "America/New_York",
    "America/Chicago",
    "Europe/London",
    "Asia/Calcutta",
    "Australia/Sydney",
    "America/Sao_Paulo",
    "Asia/Tokyo",
)
REASONS = (
    "",
    "",
    "Conflict with another meeting",
    "I am ill today",
    "No longer needed, thank you",
    "Travelling; sorry!",
)
GOALS = (
    "See the product",
    "Talk about prices",
    "Onboarding\nTraining",
    "An integration / API question",
    'A "quick" chat',
)
CAMPAIGNS = ("autumn-webinar", "newsletter-47", "partner/page")


def full_name(draws: Draws) -> tuple[str, str]:
    """Return a given and a family name."""
    return draws.pick(GIVEN), draws.pick(FAMILY)


def address(name: str, number: int) -> str:
    """Return a mail address at example.com for a name; the number makes it unique."""
    local = "".join(letter if letter.isascii() and letter.isalpha() else "." for letter in name.lower())
    return f"{local}.{number}@example.com"


def phone(draws: Draws) -> str:
    """Return a number from the range reserved for fiction in North America (555-0100 to 555-0199)."""
    return f"+1 202-555-01{draws.below(100):02d}"


QUESTIONS = ("What would you like to talk about?", "Company")
"""The questions of every booking form; none must be answered."""


def answers(draws: Draws) -> tuple[BookingAnswer, ...]:
    """Return answers to a booking form; positions may start at 0 or 1 and have gaps.

    Source: docs/reference/calendly.md, "Payloads".
    """
    first = draws.below(2)
    found = [BookingAnswer(QUESTIONS[0], draws.pick(GOALS), first)]
    if draws.chance(0.5):
        found.append(BookingAnswer(QUESTIONS[1], f"{draws.pick(FAMILY)} & Daughters", first + 2))
    return tuple(found)
