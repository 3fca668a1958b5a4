"""The doctor compares the cap on connections with the files that may be open."""

from __future__ import annotations

from slotwire.ingest.foundation.open_files import FEWEST_CONNECTIONS, needed
from slotwire.ingest.operate.doctor import check_open_files


def test_the_doctor_names_both_numbers_when_the_cap_does_not_fit() -> None:
    """At what is needed all is well; one less is a warning with the cap that is left; too few for any is a failure."""
    need = needed(2_000)
    fits, short = check_open_files(2_000, need), check_open_files(2_000, need - 1)
    assert (fits.state, fits.remedy) == ("ok", "")
    assert short.state == "warning"
    assert f"only {need - 1} may be open, so `serve` takes 1999 connections, not 2000" in short.message
    assert str(need) in short.remedy
    assert check_open_files(2_000, needed(FEWEST_CONNECTIONS) - 1).state == "failed"
