"""What the code cites exists: each named section of the facts about Calendly, each named document."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.documents import CODE_FOLDERS, ROOT, headings, name_of

FACTS = "docs/reference/calendly.md"
_SUFFIXES = frozenset({".py", ".sql", ".toml", ".yaml", ".yml"})
_MARGIN = re.compile(r"\n[ \t]*(?:#|--)?[ \t]*")
_CITATION = re.compile(re.escape(FACTS) + r'((?:(?:,| and| \([^()]*\))*\s*"[^"]+")*)')
_DOCUMENT = re.compile(r"\bdocs/[\w/.-]+\.(?:md|svg)")


def _sources() -> list[Path]:
    """Return the files that may cite; tests of the repository's own form hold made-up ones."""
    files = [path for folder in CODE_FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in _SUFFIXES]
    return sorted(path for path in files if not path.is_relative_to(ROOT / "tests/contract"))


def _prose(path: Path) -> str:
    """Read a file with its comments' line breaks taken away, so that a citation may span lines."""
    return _MARGIN.sub(" ", path.read_text(encoding="utf-8"))


def test_cited_sections_exist() -> None:
    """Each section of the facts that the code names is a heading there, and each citation names one."""
    titles = set(headings((ROOT / FACTS).read_text(encoding="utf-8")))
    citations = [(path, cited) for path in _sources() for cited in _CITATION.findall(_prose(path))]
    assert citations, "the code cites its facts"
    vague = [name_of(path) for path, cited in citations if not cited]
    assert not vague, f'name the section: {FACTS}, "Delivery"'
    missing = {(name_of(path), title) for path, cited in citations for title in re.findall(r'"([^"]+)"', cited)}
    assert not {item for item in missing if item[1] not in titles}, f"{FACTS} has: {', '.join(sorted(titles))}"


@pytest.mark.parametrize("path", [path for path in _sources() if "docs/" in _prose(path)], ids=name_of)
def test_cited_documents_exist(path: Path) -> None:
    """Each document that a source file names is there."""
    named = set(_DOCUMENT.findall(_prose(path)))
    assert not {name for name in named if not (ROOT / name).exists()}


def test_facts_carry_their_confidence() -> None:
    """Each row of a table of facts about Calendly says how sure we are."""
    text = (ROOT / FACTS).read_text(encoding="utf-8")
    unmarked = []
    marked_column: int | None = None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            marked_column = None
        elif "mark" in cells and "meaning" not in cells[1:2]:
            marked_column = cells.index("mark")
        elif marked_column is None or set(line) <= set("|- "):
            continue
        elif not re.fullmatch(r"[ABCX?](, [ABCX?])*", cells[marked_column]):
            unmarked.append(line[:80])
    assert not unmarked
