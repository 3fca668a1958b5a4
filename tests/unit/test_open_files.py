"""How many connections fit into a limit of open files."""

from __future__ import annotations

import pytest

from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.ingest.foundation.open_files import BACKLOG, FEWEST_CONNECTIONS, RESERVED, fitting, needed


def test_a_cap_that_fits_is_kept_and_one_that_does_not_is_lowered_until_it_does() -> None:
    """At exactly what is needed nothing changes; one descriptor less costs a connection or two, never the reserve."""
    for wanted in (FEWEST_CONNECTIONS, 256, BACKLOG, BACKLOG + 1, 2_000, 10_000):
        assert needed(wanted) == wanted + min(wanted, BACKLOG) + RESERVED
        assert fitting(wanted, needed(wanted)) == wanted
    for wanted in (256, BACKLOG, BACKLOG + 1, 2_000, 10_000):
        lowered = fitting(wanted, needed(wanted) - 1)
        assert lowered == wanted - 1
        assert needed(lowered) <= needed(wanted) - 1


def test_the_usual_soft_limit_leaves_room_for_our_own() -> None:
    """With 1,024 files a cap of 2,000 becomes 320, and the reserve is free."""
    assert fitting(2_000, 1_024) == 320
    assert needed(320) == 1_024


def test_too_few_files_for_any_listener_is_refused_with_both_numbers() -> None:
    """One descriptor below the least is an error that names what is there and what is needed."""
    least = needed(FEWEST_CONNECTIONS)
    assert fitting(2_000, least) == FEWEST_CONNECTIONS
    with pytest.raises(ConfigurationError, match=f"only {least - 1} files may be open, and {least}") as refused:
        fitting(2_000, least - 1)
    assert str(needed(2_000)) in refused.value.remedy


def test_a_small_cap_needs_no_more_than_itself() -> None:
    """Fewer connections than the least are fine when no more are wanted."""
    assert fitting(2, needed(2)) == 2
