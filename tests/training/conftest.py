"""Tiny families of models, and mixtures over them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.training.tiny_mixtures import Family


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """Three models and their base, once per kind."""
    return Family(tmp_path_factory.mktemp("families"))
