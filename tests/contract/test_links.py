"""Documents point only at what is there."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tools.documents import ROOT, anchor, documents, headings, links, name_of


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_relative_links_resolve(document: Path) -> None:
    """Each relative link of a document leads to a file of the repository, and to a heading of it if it names one."""
    broken = []
    for target in links(document.read_text(encoding="utf-8")):
        link = urlsplit(target)
        if link.scheme or link.netloc:
            continue
        file = (document.parent / unquote(link.path)).resolve() if link.path else document
        inside = file.is_relative_to(ROOT) and file.exists()
        if not inside or (link.fragment and link.fragment not in _anchors(file)):
            broken.append(target)
    assert not broken, f"{name_of(document)} links to what is not there"


def test_every_document_is_reachable() -> None:
    """A reader who starts at the README reaches every page under docs/ by links."""
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        document = waiting.pop()
        if document in seen or document.suffix != ".md" or not document.exists():
            continue
        seen.add(document)
        paths = (urlsplit(target) for target in links(document.read_text(encoding="utf-8")))
        waiting.extend(
            (document.parent / unquote(link.path)).resolve() for link in paths if link.path and not link.scheme
        )
    lost = [name_of(path) for path in documents() if path.is_relative_to(ROOT / "docs") and path not in seen]
    assert not lost, "no link leads there: add one to README.md or to the page it belongs to"


def _anchors(file: Path) -> set[str]:
    return {anchor(title) for title in headings(file.read_text(encoding="utf-8"))} if file.suffix == ".md" else set()
