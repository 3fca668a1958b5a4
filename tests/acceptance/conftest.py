"""The wheels, built once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.packaging import build
from tools.sources import ROOT


@pytest.fixture(scope="session")
def slotwire_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The application's wheel."""
    return build(ROOT, tmp_path_factory.mktemp("slotwire-wheel"))


@pytest.fixture(scope="session")
def schemas_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The consumers' wheel."""
    return build(ROOT / "schemas", tmp_path_factory.mktemp("schemas-wheel"))
