"""The environment of a process that runs an author's code: without the secrets of other processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection

from slotwire.ingest.foundation.settings_base import PREFIX

OF_SHIPPED = f"{PREFIX}AGENTS__SETTINGS_KEYS"
"""Opens what is secret in the settings of agents that come with Slotwire: for a process of these alone."""
OF_MAIL = f"{PREFIX}MAIL__PASSWORD"
"""Sends mail in our name: for such a process, too."""
OF_OTHERS = (
    f"{PREFIX}VAULT__",
    f"{PREFIX}HTTP__HOOK_KEYS",
    f"{PREFIX}OAUTH__",
    f"{PREFIX}MIGRATE__DATABASE_URL",
    f"{PREFIX}MCP__TOKEN_KEYS",
    f"{PREFIX}MCP__EVENT_KEYS",
    OF_SHIPPED,
    OF_MAIL,
)
"""Begin the settings that no author's agent needs: every secret but those of its own servers, Postgres and Kafka."""


def begin_without_secrets(*, but: Collection[str] = ()) -> None:
    """Begin this command again without the secrets of others, if its environment has any: else it returns.

    Nothing of an author's was imported yet. A shell that loaded the settings of operators has all of them, and what a
    process was started with can be read in it as long as it lives.

    Args:
        but: settings that this command needs.
    """
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(OF_OTHERS) or name in but}
    if len(kept) != len(os.environ):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, "-m", "slotwire.ingest.cli", *sys.argv[1:]], kept)  # noqa: S606 - ourselves
