"""What strangers wrote reaches a person's terminal as text: it moves no cursor and forges no line."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from pydantic import BaseModel
from rich.console import Console

from slotwire.ingest.cli.bookings import draw
from slotwire.ingest.cli.listing import print_items
from slotwire.ingest.foundation.printable import one_line, printable
from slotwire.ingest.operate.booking_models import BookingItem, Timeline

ODD = "https://x/\x1b[2J\x9b31m\u202e\r\n/I"
SHOWN = "https://x/\ufffd[2J\ufffd31m\ufffd  /I"


class Item(BaseModel):
    """Something that is listed."""

    name: str


@pytest.mark.parametrize(("text", "shown"), [(ODD, SHOWN), ("Zoë 東京 👋", "Zoë 東京 👋"), ("a\u00a0b\tc", "a b c")])
def test_a_text_of_strangers_is_one_line(text: str, shown: str) -> None:
    """Control characters and those that turn the order around are replaced, spaces of every kind become spaces."""
    assert one_line(text) == shown


def test_a_text_of_several_lines_keeps_them() -> None:
    """Line ends and tabs of a body stay; a carriage return, which overwrites a line, does not."""
    assert printable("a\n\tb\r\x1b") == "a\n\tb\ufffd\ufffd"


def test_a_listing_has_a_line_for_each_item(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns show a text on its one line, whoever wrote it."""
    print_items([Item(name=ODD)], {"NAME": lambda item: item.name}, as_json=False, nothing="")
    assert capsys.readouterr().out.splitlines() == ["NAME", SHOWN]


def test_a_drawn_booking_controls_no_terminal() -> None:
    """`bookings show` draws what a payload named; marks of the drawing's own language are text, too."""
    fields: dict[str, Any] = dict.fromkeys(BookingItem.model_fields)
    fields |= {"invitee": ODD, "state": "active", "provider_status": "[bold]\x1b]0;t\x07", "organization": "O"}
    booking = BookingItem.model_construct(**fields)
    console = Console(file=StringIO(), force_terminal=True, color_system=None, width=200)
    console.print(draw(Timeline.model_construct(booking=booking, events=(), deliveries=(), chain=(), complete=True)))
    drawn = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert SHOWN in drawn
    assert "at Calendly: [bold]\ufffd]0;t\ufffd" in drawn
    assert "\x1b" not in drawn
