"""The root of Slotwire's exceptions, and those of the ground every process stands on.

The whole tree is drawn in `ingest/errors.py`.
"""

from __future__ import annotations


class SlotwireError(Exception):
    """Something went wrong that a person can act on.

    Attributes:
        message: what happened, in one line, free of secrets and personal data.
        remedy: what to do about it; may be several short lines.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class ConfigurationError(SlotwireError):
    """A setting is missing, unknown or contradicts another one."""


class DatabaseUnavailable(SlotwireError):
    """Postgres is out of reach, frozen, demoted or too slow: try again later.

    Attributes:
        reason: a short word that is also the metric's label.
    """

    def __init__(self, message: str, *, reason: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


class RowRefused(SlotwireError):
    """Postgres refused the data of a statement (SQLSTATE classes 22, 23, 54): trying again cannot help.

    Attributes:
        sqlstate: the five characters Postgres gave.
    """

    def __init__(self, message: str, *, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class SchemaMismatch(SlotwireError):
    """The database's schema is not the one this version works with."""


class BrokerUnavailable(SlotwireError):
    """Kafka is out of reach or answers with an error: try again later.

    Attributes:
        reason: a short word that is also the metric's label.
    """

    def __init__(self, message: str, *, reason: str = "unavailable", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


class TopicUnavailable(BrokerUnavailable):
    """A topic is missing, or this client may not use it. Nothing is parked; work holds until it is there.

    Attributes:
        topics: the full names of the topics.
    """

    def __init__(self, message: str, *, topics: tuple[str, ...], remedy: str = "") -> None:
        super().__init__(message, reason="topic", remedy=remedy)
        self.topics = topics


class RecordRefused(SlotwireError):
    """Kafka refused the data of a record, too large for example: trying again cannot help.

    Attributes:
        reason: a short word that is also the metric's label.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason
