"""A digest in a real browser: what strangers typed is shown as text, and nothing else happens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slotwire.handlers.shipped.digest import rendered
from tests.property.test_digest import HOSTILE, typed_everywhere
from tests.support.chromium import chromium

pytestmark = pytest.mark.drills

DONE = """
(() => ({scripts: document.scripts.length, images: document.images.length, links: document.links.length,
         loaded: performance.getEntriesByType('resource').length, alerted: window.alerted === true,
         typed: [...document.querySelectorAll('bdi')].map(each => each.children.length)}))()
"""


async def test_hostile_text_is_text(tmp_path: Path) -> None:
    """No script runs, nothing is loaded, no element is made; each typed text is in its own place, as it was shown."""
    async with chromium() as browser:
        tab = await browser.tab(await browser.person())
        for number, typed in enumerate(HOSTILE):
            page = tmp_path / f"{number}.html"
            page.write_text(rendered(typed_everywhere(typed)).html, encoding="utf-8")
            await tab.open(page.as_uri())
            found = json.loads(await tab.evaluate(f"JSON.stringify({DONE})"))
            assert [found[name] for name in ("scripts", "images", "links", "loaded")] == [0, 0, 0, 0], typed
            assert not found["alerted"]
            assert not any(found["typed"]), "no element is inside of what was typed"
