"""The versions that these tests run beside each other."""

from __future__ import annotations

import pytest

from tests.support.versions import Version, next_version, releases


@pytest.fixture(scope="session")
def old(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """The last release."""
    return releases()[-1].unpacked(tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="session")
def new(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """This checkout, with migrations of each kind that no database has."""
    return next_version(tmp_path_factory.mktemp("next"))
