"""Slotwire's exceptions, in one tree.

    SlotwireError                       message + remedy; the command prints both and ends with 1
    ├── ConfigurationError              a setting is missing, unknown or contradictory
    ├── DatabaseUnavailable             Postgres cannot answer now        → 503, Calendly retries
    ├── RowRefused                      Postgres refused the data         → bisect, then quarantine
    ├── SchemaMismatch                  migrate first
    ├── BrokerUnavailable               Kafka cannot answer now           → the relay backs off
    │   └── TopicUnavailable            a topic is missing or forbidden   → the relay holds
    ├── RecordRefused                   Kafka refused the data            → bisect, then park
    ├── DeliveryRefused                 the sender did not prove itself   → 401, counted by reason
    ├── CannotNormalize                 authentic, but not understood     → quarantine, 2xx
    ├── CursorMismatch                  the relay's cursor is not in this log → it stops and says so
    ├── SecretUnreadable                a sealed secret does not open with our keys
    ├── RequestRefused                  what an operator asked for cannot be done → 4xx with its code
    └── CalendlyError                   Calendly's API refused or failed

Foreign exceptions are translated at one seam each: asyncpg's in `foundation/postgres.py`, aiokafka's in
`foundation/kafka.py`, httpx's in `control/calendly_client/`.
"""

from __future__ import annotations

from enum import StrEnum

from slotwire.ingest.foundation.errors import (
    BrokerUnavailable,
    ConfigurationError,
    DatabaseUnavailable,
    RecordRefused,
    RowRefused,
    SchemaMismatch,
    SlotwireError,
    TopicUnavailable,
)

__all__ = [
    "BrokerUnavailable",
    "CalendlyError",
    "CalendlyProblem",
    "CannotNormalize",
    "ConfigurationError",
    "CursorMismatch",
    "DatabaseUnavailable",
    "DeliveryRefused",
    "RecordRefused",
    "RequestRefused",
    "RowRefused",
    "SchemaMismatch",
    "SecretUnreadable",
    "SlotwireError",
    "TopicUnavailable",
]


class DeliveryRefused(SlotwireError):
    """The sender did not prove to be Calendly. All reasons get the same answer.

    Attributes:
        reason: `unknown_hook`, `missing`, `malformed`, `mismatch` or `from_future`; also the metric's label.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"delivery refused: {reason}")
        self.reason = reason


class CannotNormalize(SlotwireError):
    """An authentic delivery that this version does not understand. It is kept in quarantine.

    Attributes:
        reason: a short word; also the metric's label.
        detail: where in the payload, without its values.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"delivery not understood: {reason}")
        self.reason = reason
        self.detail = detail


class CursorMismatch(SlotwireError):
    """The relay's cursor does not fit this log: Postgres or Kafka was restored or replaced."""


class SecretUnreadable(SlotwireError):
    """A sealed secret does not open: another key, another place, or changed bytes."""


class RequestRefused(SlotwireError):
    """What an operator asked for cannot be done, by command or by HTTP.

    Attributes:
        code: a short word that programs act on; the HTTP status follows from it.
    """

    def __init__(self, message: str, *, code: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.code = code


class CalendlyProblem(StrEnum):
    """What kind of no Calendly's answer is; the caller acts on this, never on Calendly's words."""

    INVALID = "invalid"
    """The request's values do not fit (400). Also the answer when the token lacks an event's read scope."""
    CREDENTIAL = "credential"
    """The token is invalid, expired or revoked (401)."""
    SCOPE = "scope"
    """The token lacks scopes (403 that names them)."""
    PLAN = "plan"
    """The account's plan does not include this (403)."""
    PERMISSION = "permission"
    """The token's user may not do this (403)."""
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    LIMITED = "limited"
    """Too many requests (429); `wait` says how long to stay away."""
    UPSTREAM = "upstream"
    """Calendly failed, or what stands before it answered in its place."""
    UNREACHABLE = "unreachable"
    """No answer came; whether the request was carried out is not known."""
    UNEXPECTED = "unexpected"
    """An answer that is not in Calendly's documents."""


class CalendlyError(SlotwireError):
    """Calendly's API refused a request or failed.

    Attributes:
        problem: what kind of no it is.
        status: the HTTP status, or None when no answer came.
        wait: how long to stay away, in seconds, where Calendly said so.
        required_scopes: what the token lacks, in Calendly's words, where it said so.
    """

    def __init__(
        self,
        message: str,
        *,
        problem: CalendlyProblem,
        status: int | None = None,
        wait: float | None = None,
        required_scopes: tuple[str, ...] = (),
        remedy: str = "",
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.problem = problem
        self.status = status
        self.wait = wait
        self.required_scopes = required_scopes
