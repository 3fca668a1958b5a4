"""The root of Slotwire's exceptions, and those that `foundation` raises.

The whole tree is drawn in `ingest/errors.py`.
"""

from __future__ import annotations


class SlotwireError(Exception):
    """A failure that a person can act on.

    Attributes:
        message: what happened, in one line, without secrets or personal data.
        remedy: what to do about it, in one or several short lines; may be empty.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    @property
    def in_one_line(self) -> str:
        """The message with what to do, for readiness and tables."""
        return f"{self.message}. {' '.join(self.remedy.split())}" if self.remedy else self.message


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


class DatabaseUnfit(DatabaseUnavailable):
    """Postgres answers, and is not as this version needs it: a right, a pooler's mode, durability, its version.

    Work waits as if it were away, and flows on when a person has mended that.
    """


class RowRefused(SlotwireError):
    """Postgres refused the data of a statement (SQLSTATE class 22, 23 or 54); a retry cannot succeed.

    Attributes:
        sqlstate: the five-character code from Postgres.
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
    """A topic is missing, or this client may not use it. No event is parked; work waits for the topic.

    Attributes:
        topics: the full names of the topics.
    """

    def __init__(self, message: str, *, topics: tuple[str, ...], remedy: str = "") -> None:
        super().__init__(message, reason="topic", remedy=remedy)
        self.topics = topics


class ControlUnavailable(SlotwireError):
    """`slotwire control`, or Calendly behind it, is out of reach: try again later."""


class OutgoingRefused(SlotwireError):
    """A receiver's address may not be connected to, or is written so that nobody should: asking again is no use.

    Attributes:
        reason: a short word that is also the metric's label.
    """

    def __init__(self, message: str, *, reason: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


class OutgoingFailed(SlotwireError):
    """A receiver did not answer: try again later. It may have got the request.

    Attributes:
        reason: a short word that is also the metric's label.
    """

    def __init__(self, message: str, *, reason: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


class RecordRefused(SlotwireError):
    """Kafka refused the data of a record, for example because it is too large; a retry cannot succeed.

    Attributes:
        reason: a short word that is also the metric's label.
    """

    def __init__(self, message: str, *, reason: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


class SecretUnreadable(SlotwireError):
    """A sealed secret does not open: the key or its place is another one, or its bytes were changed."""


class RequestRefused(SlotwireError):
    """An operator's request, by command or by HTTP, cannot be carried out.

    Attributes:
        code: a short word that programs act on; it determines the HTTP status.
    """

    def __init__(self, message: str, *, code: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.code = code
