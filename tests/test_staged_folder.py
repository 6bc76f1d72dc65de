"""The run folder of a genome with stages: which have begun, and what is refused there."""

from __future__ import annotations

import pytest

from evomerge.foundations.errors import LedgerError
from evomerge.recipe.plain import Recipe
from evomerge.run.ledger.staged_folder import (
    StagedFolder,
    begun_stages,
    result_folder,
    whole_folder,
)

GENOME = "stages: [{name: two}, {name: one}, {name: last}]\n"
NAMES = ("two", "one", "last")


@pytest.fixture
def folder(tmp_path):
    found = StagedFolder(tmp_path / "run")
    found.path.mkdir()
    return found


def begin(folder, *names):
    for name in names:
        folder.stage(name).mkdir(parents=True)
        (folder.stage(name) / "ledger.jsonl").touch()


def test_the_result_is_of_the_last_stage_that_has_begun_in_the_order_of_the_genome(folder):
    assert result_folder(folder.path) == folder.path
    folder.begin(GENOME)
    begin(folder, "one", "two")
    folder.stage("last").mkdir()
    assert [run.path.name for run in begun_stages(folder.path)] == ["two", "one"]
    assert result_folder(folder.path) == folder.stage("one")
    assert whole_folder(folder.stage("one")) == folder.path
    assert whole_folder(folder.path) == folder.path
    for broken in ("stages: 3\n", "stages: [[]]\n", "stages: [{name: [one]}]\n", "a: b: c\n"):
        folder.genome.write_text(broken)
        assert len(begun_stages(folder.path)) in (0, 2)  # by name where nobody knows the order


def test_a_run_without_stages_is_its_own_result(folder):
    begin(folder, "one")
    (folder.path / "ledger.jsonl").touch()
    assert result_folder(folder.path) == folder.path
    with pytest.raises(LedgerError, match="holds a run without stages"):
        folder.refuse_another(NAMES, GENOME)


def test_files_and_stages_of_other_runs_are_left_alone(folder):
    folder.genome.write_text("genome: {}\n")
    with pytest.raises(LedgerError, match=r"holds genome\.yml and no run"):
        folder.refuse_another(NAMES, GENOME)
    folder.genome.unlink()
    begin(folder, "two", "older")
    with pytest.raises(LedgerError, match="stages that the genome does not have: older"):
        folder.refuse_another(NAMES, GENOME)
    folder.refuse_another((*NAMES, "older"), GENOME)


@pytest.mark.parametrize("place", ["stages", "models", "stages/one"])
def test_nothing_is_written_through_a_link(folder, tmp_path, place):
    (folder.path / place).parent.mkdir(exist_ok=True)
    (folder.path / place).symlink_to(tmp_path)
    with pytest.raises(LedgerError, match=f"{place} is a symbolic link"):
        folder.refuse_another(NAMES, GENOME)


def test_another_recipe_is_kept_in_another_folder(folder):
    one, other = (Recipe({"merge_method": "linear", "models": [{"model": m}]}) for m in "ab")
    assert folder.model("sums", one) != folder.model("sums", other)
    assert folder.model("sums", one).name == "sums"
