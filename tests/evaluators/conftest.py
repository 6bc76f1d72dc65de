"""A task folder and a tiny live model, built once per session."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.evaluators.lm_eval import LmEval
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES
from evomerge.merging.live_model import LiveModel
from tests.evaluators.tiny_tasks import CHAT_TEMPLATE, write_tasks
from tests.tiny_models import tiny_model


@pytest.fixture(scope="session", autouse=True)
def _own_dataset_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Models this small only wait for one another's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def task_folder(tmp_path_factory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny", drift=0.2)


@pytest.fixture
def live_model(model_folder) -> LiveModel:
    """A fresh model each time: tests overwrite its weights."""
    module = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    return LiveModel(module, AutoTokenizer.from_pretrained(model_folder))


@pytest.fixture
def chat_model(live_model) -> LiveModel:
    live_model.tokenizer.chat_template = CHAT_TEMPLATE
    return live_model


@pytest.fixture
def make(task_folder):
    """Builds an evaluator: ``make("tiny_choice", {"name": ..., "limit": 5}, seed=1)``."""

    def build(*tasks: str | dict, seed: int = 0, **settings) -> LmEval:
        return LmEval(
            [Task.model_validate(task) for task in tasks],
            EvaluationBlock(**settings),
            ENGINES["transformers"],
            search_path=[str(task_folder)],
            seed=seed,
        )

    return build
