"""What holds for every kind of recipe: read, kept, written, built and brought to life alike."""

from __future__ import annotations

import json
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mergekit.config import MergeConfiguration

from evomerge.foundations.errors import RunError
from evomerge.merging import MERGERS
from evomerge.merging.build import build
from evomerge.merging.mergers import Mergers
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe import RECIPE_KINDS
from evomerge.recipe.file import documents_of, recipe_of
from evomerge.recipe.plain import PLAIN, Recipe
from tests.contract.recipe_kind_cases import CASES
from tests.merging.built import assert_equals_folder
from tests.tiny_models import tiny_family

NAMES = ("base", "one", "other")
EVERY_KIND = pytest.mark.parametrize("kind", sorted(CASES))
BUILT = pytest.mark.parametrize("kind", [k for k in sorted(CASES) if not RECIPE_KINDS[k].unbuilt])


def written(text: str, folder: Path) -> Recipe:
    """The recipe that a file holds; it ignores none of its keys."""
    file = folder / "recipe.yml"
    file.write_text(text, encoding="utf-8")
    told = []
    recipe = recipe_of(documents_of(file), told.append)
    assert told == []
    return recipe


def test_every_kind_has_a_case_and_a_key_of_its_own_and_some_have_a_merger():
    assert set(MERGERS) <= set(RECIPE_KINDS) == set(CASES)
    assert len({kind.key for kind in RECIPE_KINDS.values()}) == len(RECIPE_KINDS)
    assert list(RECIPE_KINDS)[-1] == PLAIN  # which takes what the others leave


@EVERY_KIND
def test_what_a_file_holds_is_kept_in_a_ledger_and_written_again(kind, tmp_path):
    recipe = written(CASES[kind](NAMES), tmp_path)
    assert recipe.kind == kind
    kept = Recipe(json.loads(json.dumps(recipe.config)))
    assert (kept, kept.digest, kept.kind) == (recipe, recipe.digest, kind)
    assert written(recipe.to_yaml(), tmp_path) == recipe
    recipe.check()


@EVERY_KIND
def test_its_models_are_those_of_the_user_and_others_may_take_their_place(kind, tmp_path):
    recipe = written(CASES[kind](NAMES), tmp_path)
    names = {name for name in NAMES if re.search(rf"(?m): {name}$", CASES[kind](NAMES))}
    assert {model.text for model in recipe.named} == names
    assert names >= {model.text for model in recipe.models} > set()
    assert set(recipe.made).isdisjoint(NAMES)
    least = 0 if recipe.unbuilt else len(recipe.documents) - 1
    assert least <= len(recipe.made) <= len(recipe.documents)
    same = recipe.with_models(lambda model: model)
    moved = recipe.with_models(lambda m: m.model_copy(update={"path": f"/else/{m.path}"}))
    assert same == recipe != moved
    assert {model.text for model in moved.named} == {f"/else/{name}" for name in names}
    assert (moved.made, moved.kind, moved.methods) == (recipe.made, kind, recipe.methods)
    assert (moved.structure_key == recipe.structure_key) is False


@EVERY_KIND
def test_mergekit_reads_its_merges_and_has_its_command(kind, tmp_path):
    recipe = written(CASES[kind](NAMES), tmp_path)
    for document in recipe.documents:
        assert MergeConfiguration.model_validate(dict(document)).merge_method in recipe.methods
    files = list(recipe.files("stages"))
    commands = recipe.commands(files, "out", "stages")
    if recipe.unbuilt:
        assert (recipe.program, commands) == ("", ())
        assert recipe.pool is not None or kind in MERGERS  # else it never comes to life
        with pytest.raises(RunError, match=f"nothing builds it: {recipe.unbuilt}"):
            build(recipe, tmp_path / "out")
        return
    for command in commands:
        assert shutil.which(command.program, path=str(Path(sys.executable).parent))
        assert find_spec(command.module)
    assert commands[-1].program == recipe.program
    named = [argument for command in commands for argument in command.arguments]
    assert {*files, "out"} <= set(named)
    assert all(text for text in recipe.files("stages").values())


@BUILT
@pytest.mark.slow
def test_what_lives_is_what_the_real_command_builds(kind, tmp_path):
    models = list(map(str, tiny_family(tmp_path / "family")))
    recipe = written(CASES[kind](models), tmp_path)
    mergers = Mergers(lambda: ResidentMerger(merge_seed=3))
    live = mergers.merge(recipe)
    threads = torch.get_num_threads()
    build(recipe, tmp_path / "out", merge_seed=3, threads=threads)
    assert_equals_folder(live, tmp_path / "out")
    mergers.forget_structures()
    again = mergers.merge(recipe)
    assert_equals_folder(again, tmp_path / "out")
