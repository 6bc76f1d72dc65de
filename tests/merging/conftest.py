"""One thread: tiny tensors gain nothing from more, and the bits of some methods depend on it."""

from __future__ import annotations

from tests.shared_fixtures import one_thread  # noqa: F401  # a fixture that acts on its own
