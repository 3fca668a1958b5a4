"""Reads a secret from a file or standard input, never from the command line, which other users can see."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pydantic import SecretStr

MAX_TOKEN_FILE_BYTES = 16_384
"""Bytes of the file. A longer one cannot hold a token."""

TokenFile = Annotated[
    str,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="A file that holds a Calendly token of an owner or admin; - reads standard input.",
    ),
]


def read_token(source: str) -> SecretStr:
    """Read a token.

    Args:
        source: the file's name; `-` for standard input.

    Raises:
        RequestRefused: it cannot be read, or holds no token.
    """
    return read_secret(source, option="--token-file ", what="token")


def read_secret(source: str, *, option: str, what: str = "secret") -> SecretStr:
    """Read a secret.

    Args:
        source: the file's name; `-` for standard input.
        option: the option as it is written before the file's name.
        what: it is, for messages.

    Raises:
        RequestRefused: it cannot be read, or holds none.
    """
    from pydantic import SecretStr

    from slotwire.ingest.errors import RequestRefused

    remedy = f"Write the {what} alone into a file that only you can read, or pipe it in: {option}-"
    try:
        if source == "-":
            octets = sys.stdin.buffer.read(MAX_TOKEN_FILE_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                octets = file.read(MAX_TOKEN_FILE_BYTES + 1)
    except OSError as error:
        why = (error.strerror or "it cannot be read").lower()
        raise RequestRefused(f"the {what} file {source}: {why}", code="option_invalid", remedy=remedy) from None
    if len(octets) > MAX_TOKEN_FILE_BYTES:
        raise RequestRefused(f"the {what} file is too long to hold a {what}", code="option_invalid", remedy=remedy)
    text = octets.decode("ascii", "replace").strip()
    if not text:
        raise RequestRefused(f"the {what} file is empty", code="option_invalid", remedy=remedy)
    return SecretStr(text)
