"""Tiny models that the tests of models change copies of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_models import tiny_family


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A Llama and a fine-tune of it: base, model_1."""
    return tiny_family(tmp_path_factory.mktemp("family"), n_models=1)


@pytest.fixture
def base(family: list[Path]) -> Path:
    """The base; not to be changed."""
    return family[0]


@pytest.fixture
def tuned(family: list[Path]) -> Path:
    """A fine-tune of it; not to be changed."""
    return family[1]
