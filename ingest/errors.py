"""Slotwire's exceptions, in one tree.

    SlotwireError                       message + remedy; a command prints both and exits with status 1
    ├── ConfigurationError              a setting is missing, unknown or contradictory
    ├── DatabaseUnavailable             Postgres cannot answer now         → 503, Calendly retries
    │   └── DatabaseUnfit               it can, and is not as we need it   → the same, until a person mends it
    ├── RowRefused                      Postgres refused the data          → bisect, then quarantine
    ├── SchemaMismatch                  the schema is not this version's   → migrate first
    ├── BrokerUnavailable               Kafka cannot answer now            → the relay backs off
    │   └── TopicUnavailable            a topic is missing or forbidden    → the relay holds
    ├── ControlUnavailable              control cannot call Calendly now   → the event waits
    ├── OutgoingRefused                 a receiver's address may not be connected to → a person changes it
    ├── OutgoingFailed                  a receiver does not answer         → it is tried again
    ├── RecordRefused                   Kafka refused the data             → bisect, then park
    ├── DeliveryRefused                 the sender's signature is not valid → 401, counted by reason
    ├── CannotNormalize                 authentic, but not understood      → quarantine, 200
    ├── LeadershipLost                  another process writes this shard  → the relay stands by
    ├── CursorMismatch                  the relay's cursor is not in this log → the relay holds
    ├── SecretUnreadable                a sealed secret does not open with our keys
    ├── RequestRefused                  an operator's request cannot be carried out → 4xx with its code
    │   ├── ParametersInvalid           the query parameters are not valid: operate/routes/base.py
    │   ├── OrganizationClaimLost       another process changes an organization: control/claims.py
    │   ├── FlowStopped                 a customer cannot be connected like this: control/oauth_flow.py
    │   ├── LinkStopped                 an approval's link decides nothing: control/approval_links.py
    │   └── IdentityChanged             a token's user or organization is not the pinned one: control/connections.py
    ├── CalendlyError                   Calendly's API refused a request or failed
    │   ├── ScopeMissing                the token lacks scopes: tick them
    │   ├── PlanMissing                 the organization's plan does not include it: its owner upgrades
    │   └── PageRefused                 a list must be begun again: control/calendly_client/pages.py
    └── NotLoopback                     the simulator was asked to send elsewhere: simulator/transport.py

Exceptions of three libraries are caught in these files of `ingest/` and nowhere else; everything above them sees ours:

    asyncpg     foundation/postgres.py
                foundation/postgres_errors.py           what each of them means
                foundation/postgres_hosts.py            of several hosts, one may fail
                foundation/postgres_session.py          a connection that ends
    aiokafka    foundation/kafka.py
                foundation/kafka_diagnosis.py           why no broker lets us in
                foundation/kafka_records.py             a batch that the quick reader refuses
    httpx       control/calendly_client/transport.py    calls to Calendly
                simulator/client.py                     calls to a simulator's control addresses
                foundation/control_client.py            calls of agents to `control`

`tests/contract/test_errors.py` compares both drawings with the code.
"""

from __future__ import annotations

from enum import StrEnum

from slotwire.ingest.foundation.errors import (
    BrokerUnavailable,
    ConfigurationError,
    ControlUnavailable,
    DatabaseUnavailable,
    DatabaseUnfit,
    RecordRefused,
    RequestRefused,
    RowRefused,
    SchemaMismatch,
    SecretUnreadable,
    SlotwireError,
    TopicUnavailable,
)

__all__ = [
    "BrokerUnavailable",
    "CalendlyError",
    "CalendlyProblem",
    "CannotNormalize",
    "ConfigurationError",
    "ControlUnavailable",
    "CursorMismatch",
    "DatabaseUnavailable",
    "DatabaseUnfit",
    "DeliveryRefused",
    "LeadershipLost",
    "PlanMissing",
    "RecordRefused",
    "RequestRefused",
    "RowRefused",
    "SchemaMismatch",
    "ScopeMissing",
    "SecretUnreadable",
    "SlotwireError",
    "TopicUnavailable",
]


class DeliveryRefused(SlotwireError):
    """The sender did not prove that it is Calendly. Every reason gets the same answer.

    Attributes:
        reason: `unknown_hook`, `missing`, `malformed`, `mismatch` or `from_future`; also the metric's label.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"delivery refused: {reason}")
        self.reason = reason


class CannotNormalize(SlotwireError):
    """An authentic delivery that this version does not understand. It goes to quarantine.

    Attributes:
        reason: a short word; also the metric's label.
        detail: the place in the payload, without its values.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"delivery not understood: {reason}")
        self.reason = reason
        self.detail = detail


class LeadershipLost(SlotwireError):
    """Another process writes this shard of the log now: whoever meets this leads no more, and nothing was written."""


class CursorMismatch(SlotwireError):
    """The relay's cursor does not fit this log: Postgres or Kafka was restored or replaced."""


class CalendlyProblem(StrEnum):
    """Why a call to Calendly failed. Callers act on this, never on Calendly's words."""

    INVALID = "invalid"
    """The request's values are not valid (400). Calendly answers the same if the token lacks an event's read scope."""
    CREDENTIAL = "credential"
    """The token is invalid, expired or revoked (401)."""
    SCOPE = "scope"
    """The token lacks scopes (a 403 that names them)."""
    PLAN = "plan"
    """The account's plan does not include this (403)."""
    PERMISSION = "permission"
    """The token's user may not do this (403)."""
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    LIMITED = "limited"
    """Too many requests (429); `wait` says how long to wait."""
    UPSTREAM = "upstream"
    """Calendly failed, or a proxy in front of it answered in its place."""
    UNREACHABLE = "unreachable"
    """No answer came; it is unknown whether the request was carried out."""
    UNEXPECTED = "unexpected"
    """An answer that Calendly does not document."""


class CalendlyError(SlotwireError):
    """Calendly's API refused a request or failed.

    Attributes:
        problem: why it failed.
        status: the HTTP status, or None when no answer came.
        wait: how long to wait before the next request, in seconds; None if Calendly did not say.
        required_scopes: the scopes the token lacks, in Calendly's words; empty if it did not say.
        sent: whether the request, or a part of it, may have left; if not, it certainly had no effect.
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
        sent: bool = True,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.sent = sent
        self.problem = problem
        self.status = status
        self.wait = wait
        self.required_scopes = required_scopes


class ScopeMissing(CalendlyError):
    """The token lacks scopes that a call needs; `required_scopes` are those to tick."""

    def __init__(self, message: str, *, status: int, scopes: tuple[str, ...]) -> None:
        ticked = ", ".join(scopes) or "those that the operation names in docs/reference/calendly-operations.md"
        remedy = (
            f"Tick these scopes for a new token, or let the user consent again: {ticked}. A token has only the scopes"
            " that were chosen when it was made."
        )
        super().__init__(message, problem=CalendlyProblem.SCOPE, status=status, required_scopes=scopes, remedy=remedy)


class PlanMissing(CalendlyError):
    """The organization's plan does not include a call.

    Attributes:
        plan: that it needs, as far as Calendly's words or its documents say; None where they do not.
    """

    def __init__(self, message: str, *, status: int, plan: str | None) -> None:
        wanted = {None: "a plan that includes it", "paid": "a paid plan"}.get(plan, f"the plan {plan}")
        remedy = (
            f"It needs {wanted}: the owner of the organization at Calendly can upgrade. Without it, leave out the calls"
            " and events that need it."
        )
        super().__init__(message, problem=CalendlyProblem.PLAN, status=status, remedy=remedy)
        self.plan = plan
