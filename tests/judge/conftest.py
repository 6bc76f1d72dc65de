"""The tiny live models, as tests of other evaluators have them."""

from tests.evaluators.conftest import chat_model, live_model, model_folder

__all__ = ["chat_model", "live_model", "model_folder"]
