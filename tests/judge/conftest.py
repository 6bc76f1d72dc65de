"""The tiny live model, as tests of other evaluators have it."""

from tests.evaluators.conftest import live_model, model_folder

__all__ = ["live_model", "model_folder"]
