"""Tiny families of models, and mixtures over them."""

from __future__ import annotations

import pytest

from tests.shared_fixtures import one_thread  # noqa: F401  # a fixture that acts on its own
from tests.training.tiny_mixtures import Family


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """Three models and their base, once per kind."""
    return Family(tmp_path_factory.mktemp("families"))
