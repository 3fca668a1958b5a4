"""Draws what `nightly_digest` sends, as docs/images/nightly-digest.png: `python -m tools.digest_picture`.

The page is what the agent itself makes of the example below, shown by Chromium (Debian's package `chromium`).
"""

from __future__ import annotations

import subprocess
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from slotwire.handlers.shipped.digest import rendered
from slotwire.handlers.shipped.digest.facts import (
    AttentionKind,
    ChangeKind,
    DigestAttention,
    DigestChange,
    DigestFacts,
    DigestMeeting,
    DigestPerson,
)
from tools.drills import program
from tools.sources import ROOT

PICTURE = ROOT / "docs" / "images" / "nightly-digest.png"
WIDTH, HEIGHT, SCALE = 700, 840, 1.25


def _utc(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 12, day, hour, minute, tzinfo=UTC)


ZOE = DigestPerson("Zoë Adams", "zoe@example.com")
RASHID = DigestPerson("راشد <b>حداد</b>", "rashid@example.org")
SAM = DigestPerson("Sam Okoro", "sam@example.net")
EXAMPLE = DigestFacts(
    day=date(2026, 12, 2),
    zone=ZoneInfo("Europe/Berlin"),
    since=datetime(2026, 11, 30, 17, tzinfo=UTC),
    meetings=(
        DigestMeeting(_utc(2, 8), _utc(2, 8, 30), "Intro call", "zoom", ("Ada Lovelace",), (ZOE,)),
        DigestMeeting(
            _utc(2, 13),
            _utc(2, 14),
            "Group onboarding",
            "google_conference",
            ("Ada Lovelace", "Grace Hopper"),
            (RASHID, DigestPerson("Mia Chen", "mia@example.com")),
        ),
    ),
    changes=(
        DigestChange(ChangeKind.NEW, ZOE, "Intro call", _utc(2, 8)),
        DigestChange(ChangeKind.MOVED, RASHID, "Group onboarding", _utc(2, 13), old_start=_utc(1, 9)),
        DigestChange(
            ChangeKind.CANCELED,
            DigestPerson("Lee Park", "lee@example.com"),
            "Intro call",
            _utc(3, 9),
            reason="Travel plans changed,\nsorry!",
            canceler="invitee",
        ),
        DigestChange(ChangeKind.NO_SHOW, SAM, "Contract review", _utc(1, 10)),
    ),
    attention=(
        DigestAttention(AttentionKind.CONNECTIONS, 1, _utc(1, 6, 12)),
        DigestAttention(AttentionKind.ACTIONS, 2, _utc(1, 9, 40)),
    ),
)
"""An example with what strangers type: markup, line ends, writing from right to left."""


def main() -> None:
    """Draw the picture."""
    with tempfile.TemporaryDirectory() as folder:
        page, picture = Path(folder, "digest.html"), Path(folder, "digest.png")
        page.write_text(rendered(EXAMPLE).html, encoding="utf-8")
        subprocess.run(
            [
                program("chromium"),
                *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"),
                f"--user-data-dir={folder}/profile",
                f"--window-size={WIDTH},{HEIGHT}",
                f"--force-device-scale-factor={SCALE}",
                f"--screenshot={picture}",
                page.as_uri(),
            ],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        PICTURE.write_bytes(picture.read_bytes())


if __name__ == "__main__":
    main()
