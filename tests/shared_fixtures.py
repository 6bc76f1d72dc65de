"""Fixtures that several folders of tests take over by importing them."""

from __future__ import annotations

from collections.abc import Iterator

import datasets
import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from more threads, and the bits of some methods depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def own_dataset_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Data sets of tests do not stay in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield
