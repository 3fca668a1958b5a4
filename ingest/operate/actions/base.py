"""What every operator verb stands on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.control.calendly_client.transport import RetryPolicy
from ingest.foundation.clock import Clock
from ingest.foundation.postgres import Pool

if TYPE_CHECKING:
    from ingest.foundation.settings import Settings

CALENDLY_RETRIES = RetryPolicy(attempts=2)
"""Somebody waits for the answer."""


@dataclass(frozen=True, slots=True)
class Verbs:
    """The verbs of one noun, on one database. Every verb asks first whether the caller may."""

    pool: Pool
    settings: Settings
    clock: Clock
