"""A workplace: tiny models, a task with three splits, and a genome, in one folder."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.tiny_models import tiny_family

WORDS = "the quick brown fox jumps over lazy dog pack my box with five dozen jugs".split()  # noqa: SIM905  # reads as the sentence it is
ROOT = Path(__file__).parents[2]

GENOME = """
genome:
  models: [models/model_1, models/model_2]
  base_model: models/base
  merge_method: task_arithmetic
  granularity: layers
  layer_granularity: 1
tasks: [{name: tiny_search, limit: 12}]
validation: [{name: tiny_validation, limit: 12}]
holdout: [{name: tiny_holdout, limit: 12}]
task_search_path: [tasks]
optimizer: {name: cma_es, budget: 6, population_size: 4}
baselines: [models, base, average]
"""

TASK = """
task: tiny_{split}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{text}}}}"
doc_to_choice: "{{{{options}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workplace")
    tiny_family(folder / "models")
    return folder


@pytest.fixture
def workplace(_template: Path, tmp_path: Path) -> Path:
    """A folder with models/, tasks/ and genome.yml of its own."""
    return make_workplace(_template, tmp_path / "workplace")


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> Path:
    """A copy of the workplace that a module has finished; its tasks' data stay where they were."""
    folder = tmp_path / "workplace"
    shutil.copytree(finished, folder)
    return folder


def make_workplace(template: Path, folder: Path) -> Path:
    """Writes models/, tasks/ and genome.yml into a folder."""
    shutil.copytree(template, folder)
    (folder / "tasks").mkdir()
    (folder / "genome.yml").write_text(GENOME)
    rng = random.Random(0)
    for split in ("search", "validation", "holdout"):
        file = folder / "tasks" / f"{split}.jsonl"
        rows = [
            {
                "text": " ".join(rng.sample(WORDS, 4)),
                "options": rng.sample(WORDS, 4),
                "answer": rng.randrange(4),
            }
            for _ in range(16)
        ]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "tasks" / f"{split}.yaml").write_text(TASK.format(split=split, file=file))
    return folder


@pytest.fixture
def evomerge(workplace: Path) -> Run:
    """Runs the command line in the workplace, with the network off."""
    return command_in(workplace)


def command_in(folder: Path) -> Run:
    """What runs the command line in a folder, with the network off."""

    def run(*arguments: str, exit_code: int = 0, **environment: str) -> object:
        finished = subprocess.run(
            [sys.executable, "-m", "evomerge", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), **environment},
        )
        assert finished.returncode == exit_code, finished.stdout + finished.stderr
        return finished

    return run  # type: ignore[return-value]  # CompletedProcess[str], hidden by the loose **


def told_in(folder: Path, *arguments: str) -> str:
    """What a command that succeeds in a folder prints; in this process, which has all imported."""
    from evomerge.cli.main import main

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        finished = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert finished.exit_code == 0, finished.output
    return finished.stdout
