"""Errors as the management API tells them: problem+json (RFC 9457) with a `code`.

What the caller can mend is told; what is ours is told by an id only, and the log has the rest.
"""

from __future__ import annotations

import http
import traceback
from uuid import uuid4

from pydantic import ValidationError

from slotwire.ingest.errors import (
    CalendlyError,
    CalendlyProblem,
    DatabaseUnavailable,
    RequestRefused,
    RowRefused,
    SlotwireError,
)
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.operate.models import Problem

RETRY_AFTER_SECONDS = 5
"""What a caller is told to wait while Postgres is away."""
MAX_PLACES = 10
"""Places of a request that are named as not fitting."""

STATUS = {
    "unauthenticated": 401,
    "role_too_low": 403,
    "out_of_reach": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "organization_refused": 409,
    "changed_meanwhile": 409,
    "retried_already": 409,
    "connection_missing": 409,
    "connection_unable": 409,
    "idempotency_key_in_use": 409,
    "body_too_large": 413,
    "media_type": 415,
    "event_unknown": 422,
    "event_of_another_scope": 422,
    "token_not_enough": 422,
    "organization_unknown": 422,
    "token_of_another_organization": 422,
    "token_unfit": 422,
    "idempotency_key_reused": 422,
    "answer_timeout": 503,
    "too_busy": 503,
}
"""The status of each code; 400 for the rest."""
_WAIT = frozenset({"idempotency_key_in_use"})
"""Codes below 503 for which waiting helps."""
CALENDLY_STATUS = {
    CalendlyProblem.CONFLICT: 409,
    CalendlyProblem.LIMITED: 503,
    CalendlyProblem.UPSTREAM: 502,
    CalendlyProblem.UNEXPECTED: 502,
    CalendlyProblem.UNREACHABLE: 504,
}
"""The status of each problem at Calendly; 422 for what another token or other values would mend."""

_log = get_logger("admin_api")


def problem_of(error: Exception) -> tuple[Problem, int | None]:
    """Turn any exception into a problem, and say how many seconds to wait, where waiting helps."""
    wait = None
    match error:
        case RequestRefused():
            problem = _told(STATUS.get(error.code, 400), error.code, error)
            wait = RETRY_AFTER_SECONDS if problem.status == 503 or problem.code in _WAIT else None
        case ValidationError():
            problem = invalid("body_invalid", error)
        case CalendlyError():
            problem = _told(CALENDLY_STATUS.get(error.problem, 422), f"calendly_{error.problem}", error)
            wait = None if error.wait is None else max(1, round(error.wait))
        case DatabaseUnavailable():
            problem, wait = _told(503, "database_unavailable", error), RETRY_AFTER_SECONDS
        case RowRefused():
            problem = _told(400, "value_refused", error, "A value cannot be kept as text: leave out NUL characters.")
        case SlotwireError():
            _log.error("misconfigured", error=error.message, remedy=error.remedy)
            problem = _told(500, "misconfigured", error)
        case _:
            problem = _unknown(error)
    return problem, wait


def invalid(code: str, error: ValidationError) -> Problem:
    """Say where a request does not fit, without what it held: that may be a secret."""
    issues = error.errors(include_url=False, include_input=False, include_context=False)
    places = tuple(f"{'.'.join(map(str, issue['loc'])) or 'body'}: {issue['msg']}" for issue in issues[:MAX_PLACES])
    return Problem(
        title="Bad Request", status=400, code=code, detail="the request does not fit", errors=places,
        remedy="/openapi.json says what fits.",
    )  # fmt: skip


def _told(status: int, code: str, error: SlotwireError, remedy: str | None = None) -> Problem:
    title = http.HTTPStatus(status).phrase
    return Problem(title=title, status=status, code=code, detail=error.message, remedy=remedy or error.remedy or None)


def _unknown(error: Exception) -> Problem:
    """Name the log line; the exception's text stays out of both, because it may hold personal data."""
    name = str(uuid4())
    frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-5:]]
    _log.error("request_failed", id=name, error=type(error).__name__, where=frames)
    return Problem(
        title="Internal Server Error",
        status=500,
        code="internal",
        detail="something went wrong on our side",
        remedy=f"The log of `slotwire control` has the rest under the id {name}.",
        id=name,
    )
