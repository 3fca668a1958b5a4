"""After which answers a message is worth another try; when that is made, whoever sends it decides. Pure."""

from __future__ import annotations

from http import HTTPStatus

from slotwire.ingest.foundation.outgoing.connections import Answer

FINAL = frozenset({HTTPStatus.GONE, HTTPStatus.REQUEST_ENTITY_TOO_LARGE})
"""Statuses after which another try of the same message cannot succeed."""


def is_worth_another(answer: Answer) -> bool:
    """Whether another try may succeed: after any answer but success, 410 and 413. `Answer.retry_after` says when."""
    return not answer.is_success and answer.status not in FINAL
