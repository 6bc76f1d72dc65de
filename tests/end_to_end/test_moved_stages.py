"""What stages keep in their run folders, merged by a later one, wherever the whole run is."""

from __future__ import annotations

import shutil

import pytest

from tests.end_to_end.conftest import command_in, make_workplace
from tests.end_to_end.test_death import found
from tests.end_to_end.test_stages import TEXT
from tests.lora_experts import lora_expert
from tests.tiny_models import tiny_family

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # PEFT warns of heads

STAGES = """
tasks: [{perplexity: text.txt}]
holdout: [{name: tiny_holdout, limit: 12}]
task_search_path: [tasks]
baselines: [models]
stages:
  - name: learned
    tasks: [{name: tiny_search}]
    genome:
      models: [models/model_1, models/model_2]
      base_model: models/base
      merge_method: task_arithmetic
    optimizer: {name: gradient, granularity: column, epochs: 4, batch_size: 4, budget: 4}
  - name: sums
    genome:
      models: [models/base+a, models/base+b]
      merge_method: linear
      adapters: factors
    optimizer: {name: random, budget: 6}
  - name: last
    genome:
      models: [{stage: learned}, {stage: sums}]
      merge_method: linear
    optimizer: {name: random, budget: 2}
"""


def test_columns_and_sums_of_earlier_stages_are_found_where_the_run_was_moved_to(tmp_path):
    tiny_family(tmp_path / "template" / "models")
    folder = make_workplace(tmp_path / "template", tmp_path / "place")
    for seed, name in enumerate("ab"):
        lora_expert(folder / name, folder / "models/base", seed, std=0.2)
    evomerge = command_in(folder)
    (folder / "stages.yml").write_text(STAGES)
    (folder / "text.txt").write_text(TEXT)
    evomerge("run", "stages.yml", "--run-dir", "out")
    ledger = (folder / "out/stages/last/ledger.jsonl").read_text()
    assert "../learned/optimizer/columns/" in ledger
    assert "../sums/adapters/factors-" in ledger
    assert str(folder) not in ledger
    expected = found(folder / "out/stages/last")

    (folder / "away").mkdir()
    shutil.move(folder / "out", folder / "away" / "there")
    evomerge("show", "away/there")
    evomerge("export", "away/there", "-o", "winner.yml")
    assert "answer as recorded" in evomerge("verify", "away/there").stdout
    shutil.rmtree(folder / "away/there/stages/last")
    shutil.rmtree(folder / "away/there/models")
    evomerge("run", "stages.yml", "--run-dir", "away/there")
    assert found(folder / "away/there/stages/last") == expected
