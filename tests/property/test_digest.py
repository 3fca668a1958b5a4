"""A digest, whatever strangers type: its lines, its tags, its headers and its subject are ours alone."""

from __future__ import annotations

import email
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime
from email.policy import SMTP
from html.parser import HTMLParser
from uuid import UUID

from hypothesis import example, given, settings
from hypothesis import strategies as st

from slotwire.handlers.shipped.digest import rendered
from slotwire.handlers.shipped.digest.facts import DigestFacts, DigestPerson, RenderedDigest
from slotwire.handlers.shipped.digest.words import quoted, visible
from slotwire.ingest.foundation.mail_message import Mail, message_of
from tools.digest_picture import EXAMPLE

HOSTILE = (
    "\r\nBcc: victim@example.com\r\n\r\nbody",
    "</td></tr></table><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "”\n09:00-09:30       “Board meeting”",
    "\u202egnp.exe\u202c\u2066\u2069\u200b\ufeff",
    "a" + "\u0301" * 500,
    "\x00\x1b[2J\x7f\x85\u2028\u2029",
    "\ud800 half",
    "=?utf-8?q?Subject?= &amp; &#x3c;",
    "x" * 5_000,
    " ",
)
TYPED = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=300), st.text(st.characters(codec=None), max_size=50))


def typed_everywhere(typed: str) -> DigestFacts:
    """The example, with one text in each place where a stranger typed."""
    person = DigestPerson(typed, typed)
    return replace(
        EXAMPLE,
        host=typed,
        meetings=tuple(
            replace(each, title=typed, hosts=(typed,), location_type=typed, people=(person,))
            for each in EXAMPLE.meetings
        ),
        changes=tuple(
            replace(each, person=person, title=typed, reason=typed, canceler=typed) for each in EXAMPLE.changes
        ),
    )


class Tags(HTMLParser):
    """The tags of a document with their attributes, in order, and its texts."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[object] = []
        self.isolated: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, attrs))

    def handle_endtag(self, tag: str) -> None:
        """Note its end."""
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        """Note what a stranger typed."""
        if self.tags[-1:] == [("bdi", [])]:
            self.isolated.append(data)


def shape(digest: RenderedDigest) -> tuple[str, list[object], list[str]]:
    """Return the subject, the tags, and the lines of text without what stands between quotation marks."""
    lines = []
    for line in digest.text.split("\n"):
        ours, depth = "", 0
        for character in line:
            depth += {"“": 1, "”": -1}.get(character, 0)
            assert depth in {0, 1}, "quotation marks are in pairs"
            ours += character if depth == 0 else ""
        lines.append(ours)
    return digest.subject, Tags(digest.html).tags, lines


@settings(max_examples=25)
@given(TYPED)
@example("\u3164")
def test_what_is_typed_changes_nothing_but_its_own_place(typed: str) -> None:
    """Subject, tags, attributes and lines are those of a digest in which everybody typed `x`."""
    found, plain = (rendered(typed_everywhere(each)) for each in (typed, "x"))
    if visible(typed, 80):
        assert shape(found) == shape(plain)
    assert found.subject == plain.subject
    assert set(Tags(found.html).isolated) <= {visible(typed, most) for most in (80, 200)}
    found.html.encode()
    found.text.encode()


@given(TYPED, st.integers(min_value=1, max_value=100))
def test_typed_text_is_one_bounded_visible_line(typed: str, most: int) -> None:
    """No control, no turn of direction, no half of a character; no flood of accents; cut; the same when done again."""
    shown = visible(typed, most)
    assert len(shown) <= most
    assert shown == shown.strip()
    kinds = [unicodedata.category(character) for character in shown]
    assert not {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} & set(kinds)
    assert all(character == " " for character, kind in zip(shown, kinds, strict=True) if kind == "Zs")
    assert "MMM" not in "".join(kind[0] for kind in kinds)
    assert visible(shown, most) == shown
    assert quoted(typed, most, absent="nobody").count("”") == (1 if shown else 0)


@settings(max_examples=25)
@given(TYPED)
def test_a_mail_has_our_headers_only(typed: str) -> None:
    """The message is ASCII, has each header once, and both parts come out as they went in."""
    digest = rendered(typed_everywhere(typed))
    mail = Mail(
        UUID(int=7), "ops@example.com", digest.subject, digest.text, digest.html, datetime(2026, 12, 1, tzinfo=UTC)
    )
    sent = message_of(mail, "slotwire@example.com").as_bytes()
    sent.decode("ascii")
    assert max(map(len, sent.split(b"\r\n"))) <= 998
    read = email.message_from_bytes(sent, policy=SMTP)
    assert sorted(read.keys()) == sorted(
        ["Message-ID", "Date", "From", "To", "Subject", "Auto-Submitted", "MIME-Version", "Content-Type"]
    )
    assert read["Message-ID"] == f"<{UUID(int=7)}@example.com>"
    assert read["Subject"] == digest.subject
    text, html = read.iter_parts()
    assert text.get_content().replace("\r\n", "\n") == digest.text
    assert html.get_content().replace("\r\n", "\n") == digest.html
