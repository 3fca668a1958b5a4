"""The documents of the repository and what the tests read in them: links, headings, commands, citations."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CODE_FOLDERS = ("ingest", "handlers", "schemas", "tests", "k8s")

_FENCE = re.compile(r"^(```|~~~)(\S*)[^\n]*\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
_ATTRIBUTE = re.compile(r"\b(?:src|srcset|href)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_SEPARATORS = frozenset({"|", "||", "&&", ";", "&"})


def documents() -> list[Path]:
    """Return every Markdown file of the repository, what was installed or built left out."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for folder in CODE_FOLDERS:
        found.extend((ROOT / folder).rglob("*.md"))
    return sorted(found)


def name_of(path: Path) -> str:
    """Name a file as seen from the root, for messages and test ids."""
    return path.relative_to(ROOT).as_posix()


def links(text: str) -> list[str]:
    """Return the targets of a document's links and pictures, those inside code left out."""
    prose = _INLINE.sub("", _FENCE.sub("", text))
    return [*_LINK.findall(prose), *_ATTRIBUTE.findall(prose)]


def headings(text: str) -> list[str]:
    """Return the titles of a document's sections."""
    return [title.strip() for title in _HEADING.findall(_FENCE.sub("", text))]


def anchor(title: str) -> str:
    """Return the anchor that a heading gets."""
    plain = re.sub(r"[`*]|\[|\]\([^)]*\)", "", title).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@dataclass(frozen=True)
class Command:
    """A command a document shows.

    Attributes:
        words: the program first; assignments before it left out.
        shown: the line as written.
    """

    words: tuple[str, ...]
    shown: str


def commands(text: str) -> list[Command]:
    """Return the commands in a document: of shell blocks, of console blocks after `$ `, and of code in a line."""
    found: list[Command] = []
    for _, language, body in _FENCE.findall(text):
        if language in {"sh", "bash", "shell"}:
            lines = body.replace("\\\n", " ").splitlines()
        elif language == "console":
            lines = [line[2:] for line in body.replace("\\\n", " ").splitlines() if line.startswith("$ ")]
        else:
            continue
        for line in lines:
            found.extend(_split(line))
    for code in _INLINE.findall(_FENCE.sub("", text)):
        if code.startswith(("slotwire ", "make ")):
            found.extend(_split(code))
    return found


def _split(line: str) -> Iterator[Command]:
    """Take a line apart into the commands a shell would run one after the other."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # a quotation that goes on in the next line
        words = line.split()
    current: list[str] = []
    for word in [*words, ";"]:
        if word in _SEPARATORS:
            if current:
                yield Command(tuple(current), line.strip())
            current = []
        elif current or not _ASSIGNMENT.match(word):
            current.append(word)
