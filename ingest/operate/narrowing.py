"""What a list says that ran out of time: which filter would make it shorter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from slotwire.ingest.foundation.errors import DatabaseUnavailable
from slotwire.ingest.operate.models import PageQuery

_OUT_OF_TIME = frozenset({"57014", "timeout"})


@contextmanager
def narrowed_by(query: PageQuery) -> Iterator[None]:
    """Read a page within the block; where the time for it ran out, name the filters that were left out.

    Raises:
        DatabaseUnavailable: as it came, with what to do about it where the time ran out.
    """
    try:
        yield
    except DatabaseUnavailable as error:
        if error.reason not in _OUT_OF_TIME:
            raise
        left_out = [name for name, value in query if value is None and name not in PageQuery.model_fields]
        remedy = f"Add a filter: {', '.join(left_out)}." if left_out else "Ask again when Postgres has less to do."
        raise DatabaseUnavailable("the list took too long", reason=error.reason, remedy=remedy) from error
