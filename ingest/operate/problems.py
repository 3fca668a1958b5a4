"""Errors of the management API: problem+json (RFC 9457) with a `code`.

The caller gets the details of errors that the caller can solve. Of a defect on our side the caller gets an id only,
and the log has the rest.
"""

from __future__ import annotations

import http
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
from slotwire.ingest.foundation.defects import defect
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.operate.models import Problem

RETRY_AFTER_SECONDS = 5
"""The `Retry-After` while Postgres is away."""
MAX_PLACES = 10
"""The most fields of a request that one error names."""

STATUS = {
    "unauthenticated": 401,
    "not_granted": 403,
    "role_too_low": 403,
    "out_of_reach": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "approval_refused": 409,
    "organization_refused": 409,
    "changed_meanwhile": 409,
    "contested": 409,
    "external_id_set": 409,
    "oauth_app_missing": 409,
    "retried_already": 409,
    "queue_full": 409,
    "data_refused": 422,
    "connection_missing": 409,
    "connection_unable": 409,
    "idempotency_key_in_use": 409,
    "body_too_large": 413,
    "media_type": 415,
    "event_unknown": 422,
    "tool_unknown": 422,
    "user_unknown": 422,
    "name_taken": 409,
    "event_of_another_scope": 422,
    "token_not_enough": 422,
    "return_url_refused": 422,
    "code_unknown": 422,
    "link_spent": 409,
    "key_of_the_app": 409,
    "another_organization": 409,
    "another_name": 409,
    "admin_missing": 409,
    "cancels_everyone": 409,
    "invitee_not_active": 409,
    "slots_overlap": 409,
    "not_movable": 422,
    "not_to_decide": 409,
    "scope_missing": 422,
    "calendly_failed": 502,
    "app_keys_missing": 500,
    "organization_unknown": 422,
    "agent_unknown": 422,
    "settings_invalid": 422,
    "secret_missing": 422,
    "token_of_another_organization": 422,
    "token_unfit": 422,
    "idempotency_key_reused": 422,
    "too_many_refusals": 429,
    "idempotency_keys_exhausted": 429,
    "answer_timeout": 503,
    "not_kept": 503,
    "too_busy": 503,
}
"""The status of each code; 400 for all others."""
_WAIT = frozenset({"changed_meanwhile", "idempotency_key_in_use", "queue_full", "too_many_refusals"})
"""Codes other than 503 for which waiting helps; such a response is not stored for an `Idempotency-Key`."""
CALENDLY_STATUS = {
    CalendlyProblem.CONFLICT: 409,
    CalendlyProblem.LIMITED: 503,
    CalendlyProblem.UPSTREAM: 502,
    CalendlyProblem.UNEXPECTED: 502,
    CalendlyProblem.UNREACHABLE: 504,
}
"""The status of each problem at Calendly; 422 for those that another token or other values would solve."""

_log = get_logger("admin_api")


def problem_of(error: Exception) -> tuple[Problem, int | None]:
    """Turn an exception into a problem, and return the seconds to wait, if waiting helps."""
    wait = None
    match error:
        case RequestRefused():
            problem = _problem(STATUS.get(error.code, 400), error.code, error)
            wait = RETRY_AFTER_SECONDS if problem.status == 503 or problem.code in _WAIT else None
        case ValidationError():
            problem = invalid("body_invalid", error)
        case CalendlyError():
            problem = _problem(CALENDLY_STATUS.get(error.problem, 422), f"calendly_{error.problem}", error)
            wait = None if error.wait is None else max(1, round(error.wait))
        case DatabaseUnavailable():
            problem, wait = _problem(503, "database_unavailable", error), RETRY_AFTER_SECONDS
        case RowRefused():
            problem = _problem(400, "value_refused", error, "A value cannot be stored as text: remove NUL characters.")
        case SlotwireError():
            _log.error("misconfigured", error=error.message, remedy=error.remedy)
            problem = _problem(500, "misconfigured", error)
        case _:
            problem = _unknown(error)
    return problem, wait


def invalid(code: str, error: ValidationError) -> Problem:
    """Say which fields of a request are not valid, without their values, which may be secret."""
    issues = error.errors(include_url=False, include_input=False, include_context=False)
    places = tuple(f"{'.'.join(map(str, issue['loc'])) or 'body'}: {issue['msg']}" for issue in issues[:MAX_PLACES])
    return Problem(
        title="Bad Request", status=400, code=code, detail="the request is not valid", errors=places,
        remedy="/openapi.json describes valid requests.",
    )  # fmt: skip


def _problem(status: int, code: str, error: SlotwireError, remedy: str | None = None) -> Problem:
    title = http.HTTPStatus(status).phrase
    return Problem(title=title, status=status, code=code, detail=error.message, remedy=remedy or error.remedy or None)


def _unknown(error: Exception) -> Problem:
    """Give the id of a log line. Neither has the exception's text, which may hold personal data."""
    name = str(uuid4())
    _log.error("request_failed", id=name, **defect(error))
    return Problem(
        title="Internal Server Error",
        status=500,
        code="internal",
        detail="something went wrong on our side",
        remedy=f"The log of `slotwire control` has the details under the id {name}.",
        id=name,
    )
