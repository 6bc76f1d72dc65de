"""Merge methods that a package registers with mergekit: found, asked, merged and exported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mergekit.merge_methods import registry

from evomerge.cli.main import entry_point
from evomerge.foundations.errors import GenomeError
from evomerge.foundations.permissions import Permissions
from evomerge.foundations.python_packages import package_digests
from evomerge.genome.load import validate_genome
from evomerge.genome.merge_method import Base, Scope
from evomerge.genome.methods import METHODS
from evomerge.genome.source import parse_yaml
from evomerge.merging.registered_methods import register_methods
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.plain import Recipe
from evomerge.verify.hindrances import of_versions
from tests.end_to_end.conftest import ROOT, command_in, make_workplace
from tests.merging.built import SEED, assert_equals_folder, build_in_process
from tests.tiny_models import tiny_family

ALLOWED = Permissions(code=True)
METHOD = """
from pathlib import Path
from typing import Annotated, Literal, Optional

import torch
from mergekit.merge_methods import (
    BasePolicy, InputContract, PerNonBase, TensorGroup, merge_method, register,
)
from pydantic import Field

Path(__file__).with_name("ran").touch()


@merge_method(name="my_merge", contract=InputContract(base=BasePolicy.REQUIRED, max_inputs=3))
def my_merge(
    group: TensorGroup,
    pull: PerNonBase[float],
    power: Annotated[float, Field(ge=0, le=2)] = 1.0,
    sign: Literal["keep", "flip"] = "keep",
    steps: Optional[int] = None,
) -> torch.Tensor:
    base, sign = group.base.tensor, 1 if sign == "keep" else -1
    pulls = zip(group.non_base, pull.values_for(group.non_base), strict=True)
    return base + sum(one * power * sign * (entry.tensor - base) for entry, one in pulls)


register(my_merge)
"""
GENOME = """
genome:
  models: [models/model_1, models/model_2]
  base_model: models/base
  merge_method: my_merge
  merge_method_packages: [my_methods]
  parameters: {pull: {range: [0, 1.5]}, sign: {choice: [keep, flip]}}
tasks: [{name: tiny_search, limit: 4}]
task_search_path: [tasks]
baselines: [models]
optimizer: {name: random, budget: 1}
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a package where Python finds it; nothing of it is left afterwards."""
    folder = tmp_path / "installed"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{folder}")  # of processes begun here
    known = set(registry._METHODS)

    def write(text=METHOD, name="my_methods"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "__init__.py").write_text(text)
        return folder / name

    yield write
    for name in registry._METHODS.keys() - known:
        del registry._METHODS[name]
    METHODS._registered.clear()
    for name in [one for one in sys.modules if one.partition(".")[0].startswith("my_")]:
        del sys.modules[name]


def refusal(*packages, permissions=ALLOWED):
    with pytest.raises(GenomeError) as caught:
        register_methods(packages, permissions)
    return str(caught.value)


def test_nothing_is_imported_without_permission(package):
    folder = package()
    said = refusal("my_methods", permissions=Permissions(True, frozenset({"my_methods"}), True))
    assert "got my_methods, whose code would run, expected permission" in said
    assert "--allow-code" in said
    assert not (folder / "ran").exists()


def test_a_package_that_is_missing_broken_or_registers_nothing_is_told(package):
    package("import my_absent_thing", "my_broken")
    package("raise SystemExit(3)", "my_exit")
    package("x = 1", "my_nothing")
    assert "no Python package my_missing is installed here" in refusal("my_missing")
    assert "no Python package my_nothing.below is installed" in refusal("my_nothing.below")
    said = refusal("my_broken", "my_exit")
    assert "my_broken cannot be imported: ModuleNotFoundError: No module named" in said
    assert "my_exit cannot be imported: SystemExit: 3" in said
    assert "my_nothing registers no merge method" in refusal("my_nothing")


def test_a_parameter_that_no_recipe_can_hold_is_refused(package):
    package(METHOD.replace("Optional[int] = None", "list[float] = ()"))
    assert "steps of my_merge takes list[float], expected bool, int, float" in refusal("my_methods")


def test_a_method_nobody_asks_for_keeps_no_other_from_being_described(package):
    other = METHOD.replace("Optional[int] = None", "list[float] = ()").replace("my_merge", "my_odd")
    package(METHOD + other)
    register_methods(["my_methods"], ALLOWED, "my_merge")
    assert "my_merge" in METHODS
    assert "my_odd" not in METHODS
    with pytest.raises(GenomeError, match=r"steps of my_odd takes list\[float\]"):
        register_methods(["my_methods"], ALLOWED, "my_odd")


def test_a_package_of_a_longer_name_is_not_the_one_it_lacks(package):
    package("import my", "my_methods")
    assert "my_methods cannot be imported: ModuleNotFoundError" in refusal("my_methods")


def test_a_method_is_described_as_it_describes_itself(package):
    package()
    register_methods(["my_methods"], ALLOWED)
    method = METHODS["my_merge"]
    assert (method.base, method.min_sources, method.max_sources) == (Base.REQUIRED, 1, 2)
    told = {p.name: (p.scope, p.kind, p.bounds, p.is_required) for p in method.parameters}
    everything = (float("-inf"), float("inf"))
    assert told == {
        "pull": (Scope.NON_BASE, float, everything, True),
        "power": (Scope.SHARED, float, (0.0, 2.0), False),
        "sign": (Scope.SHARED, str, everything, False),
        "steps": (Scope.SHARED, int, everything, False),
    }
    assert not any(p.searched or p.range for p in method.parameters)
    assert METHODS.packages(["ties", "my_merge", "unheard_of"]) == ("my_methods",)
    register_methods(["my_methods"], ALLOWED)  # again, as every worker does
    assert METHODS["my_merge"] is method


def test_a_genome_that_names_packages_is_read_where_nothing_is_imported():
    """A report of a run asks for no permission."""
    genome = validate_genome(parse_yaml(GENOME, "genome.yml"))
    assert genome.genome.merge_method == "my_merge"
    with pytest.raises(GenomeError, match=r"unknown merge method.*merge_method_packages"):
        validate_genome(parse_yaml(GENOME.replace("[my_methods]", "[]"), "genome.yml"))
    with pytest.raises(GenomeError, match="expected what stands after `import`"):
        validate_genome(parse_yaml(GENOME.replace("[my_methods]", "['a; b']"), "genome.yml"))


def test_a_digest_follows_the_files_of_a_package(package):
    folder = package()
    before = package_digests(["my_methods"])
    (folder / "below").mkdir()
    (folder / "below" / "more.py").write_text("x = 1")
    after = package_digests(["my_methods", "my_missing", "numpy"])
    assert before["my_methods"] != after["my_methods"]
    assert after["my_missing"] == "not installed"
    assert after["numpy"].startswith(sys.modules["numpy"].__version__)
    assert not (folder / "ran").exists()


def test_a_digest_imports_nothing_and_survives_a_file_that_leads_nowhere(package):
    folder = package()
    (folder / "below").mkdir()
    (folder / "below" / "__init__.py").write_text("x = 1")
    (folder / "below" / "inner.py").write_text("x = 2")
    names = [
        "my_methods.below",
        "my_methods.below.inner",
        "my_methods.gone",
        "my_methods.below.x.y",
    ]
    below, inner, gone, deeper = package_digests(names).values()
    assert below.startswith("sha256 ")
    assert inner.startswith("sha256 ")
    assert below != inner
    assert gone == deeper == "not installed"
    (folder / "below" / ".#inner.py").symlink_to("nowhere")
    changed = package_digests(["my_methods.below"])["my_methods.below"]
    assert changed.startswith("sha256 ")
    assert changed != below
    assert not (folder / "ran").exists()


def test_packages_of_a_strangers_ledger_are_looked_for_with_permission_alone(package):
    package()
    header = {"versions": {}, "method_packages": {"my_methods": "sha256 of another"}}
    assert [*of_versions(header, Permissions())] == []
    (told,) = of_versions(header, ALLOWED)
    assert "merged by sha256 of another, here is sha256 " in str(told)


def recipe_of(base, *models):
    entries = [{"model": str(m), "parameters": {"pull": 0.3 + i}} for i, m in enumerate(models)]
    config = {"merge_method": "my_merge", "models": entries, "base_model": str(base)}
    return Recipe({**config, "parameters": {"sign": "flip"}, "dtype": "float32"})


def test_its_merge_in_memory_is_what_mergekit_builds(package, tmp_path):
    package()
    register_methods(["my_methods"], ALLOWED)
    recipe = recipe_of(*tiny_family(tmp_path / "family"))
    built = build_in_process(recipe.config, tmp_path / "built")
    assert_equals_folder(ResidentMerger(merge_seed=SEED).merge(recipe), built)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    tiny_family(tmp_path / "template" / "models")
    folder = make_workplace(tmp_path / "template", tmp_path / "workplace")
    (folder / "genome.yml").write_text(GENOME)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def said(capsys):
    """What a command prints, in this process."""

    def call(*arguments, exit_code=0):
        with pytest.raises(SystemExit, match=r"^\d+$") as ended:
            entry_point(list(arguments))
        printed = capsys.readouterr()
        assert ended.value.code == exit_code, printed.out + printed.err
        return printed.out if "--json" in arguments else printed.out + printed.err

    return call


@pytest.mark.usefixtures("workplace")
def test_check_tells_what_is_not_known_and_what_is_missing(package, said):
    package()
    assert "Add --allow-code" in said("check", "genome.yml", exit_code=2)
    told = said("check", "genome.yml", "--allow-code")
    assert "genome.merge_method: nothing is known of my_merge, which my_methods" in told
    assert "pull[model_1]  real    [0, 1.5]" in told
    change = "genome.parameters={power: {range: [1, 3]}, sign: {choice: [keep, turn]}, pul: 1}"
    told = said("check", "genome.yml", "--allow-code", "--set", change, exit_code=2)
    assert "genome.parameters.pull: is missing: my_merge needs it, and nothing is known" in told
    assert "3 is outside [0, 2], what power can be" in told
    assert "my_merge has no parameter 'pul'; did you mean 'pull'" in told
    change = "genome.parameters={pull: {range: [0, 1]}, sign: {choice: [keep, turn]}}"
    told = said("check", "genome.yml", "--allow-code", "--set", change, exit_code=2)
    assert "mergekit would refuse merges: my_merge: sign is 'turn'" in told
    change = "genome.merge_method=my_mrge"
    told = said("check", "genome.yml", "--allow-code", "--set", change, exit_code=2)
    assert "unknown merge method 'my_mrge'; did you mean 'my_merge'" in told


@pytest.mark.usefixtures("workplace")
def test_check_asks_mergekit_about_a_block_of_tokens(said):
    change = "genome={models: [models/model_1, models/model_2], merge_method: linear, tokenizer: "
    change += "{source: union, tokens: {fox: {source: {kind: nothing}}}}}"
    told = said("check", "genome.yml", "--set", change, exit_code=2)
    assert "genome.tokenizer: mergekit would refuse merges: tokenizer.tokens.fox" in told


def test_list_shows_it(package, said):
    package()
    rows = json.loads(said("list", "methods", "--package", "my_methods", "--json"))
    (row,) = [row for row in rows if row["name"] == "my_merge"]
    assert (row["models"], row["searched"]) == ("1-2", [])
    assert row["if the genome says so"] == ["pull", "power", "sign", "steps"]


def test_a_run_remembers_the_package_and_its_recipe_says_how_to_build(package, workplace, said):
    folder = package()
    told = said("run", "genome.yml", "--run-dir", "out", "--allow-code")
    assert "note: nothing is known of my_merge" in told
    best = yaml.safe_load((workplace / "out" / "best.yml").read_text())
    assert best["method_packages"] == package_digests(["my_methods"])
    said("export", "out", "--trial", "2", "-o", "recipe.yml")
    lines = (workplace / "recipe.yml").read_text().splitlines()
    assert any("my_merge is no method of mergekit: my_methods registers it" in one for one in lines)
    (command,) = [one for one in lines if "python -c 'import my_methods; " in one]
    assert command.startswith("#   python -c ")
    written = ("-o", "none.yml", "--build", "built")
    assert "Add --allow-code" in said("export", "out", "--trial", "2", *written, exit_code=2)
    assert not (workplace / "none.yml").exists()
    assert "Add --allow-code" in said("run", "genome.yml", "--run-dir", "out", exit_code=2)
    assert "Add --allow-code" in said("verify", "out", "--trial", "2", exit_code=2)
    best |= {"recipe": yaml.safe_load((workplace / "recipe.yml").read_text())}
    (workplace / "other.yml").write_text(yaml.safe_dump(best))
    tasks = ("--tasks", "tiny_search", "--task-search-path", "tasks")
    assert "Add --allow-code" in said("eval", "other.yml", *tasks, exit_code=2)
    assert "tiny_search" in said("eval", "other.yml", *tasks, "--limit", "2", "--allow-code")
    assert "weighted_sum" in said("show", "out", "--json")
    (folder / "more.py").write_text("")
    told = said("run", "genome.yml", "--run-dir", "out", "--allow-code", exit_code=1)
    assert "package my_methods: was sha256 " in told


def test_a_recipe_alone_names_no_package(workplace, said):
    recipe = recipe_of("models/base", "models/model_1")
    (workplace / "recipe.yml").write_text(recipe.to_yaml())
    tasks = ("--tasks", "tiny_search", "--task-search-path", "tasks")
    told = said("eval", "recipe.yml", *tasks, "--allow-code", exit_code=2)
    assert "recipe.yml: mergekit has no merge method 'my_merge'" in told


@pytest.mark.slow
def test_a_trial_is_verified_and_its_command_builds_the_same(package, workplace):
    package()
    evomerge = command_in(workplace)
    path = {"PYTHONPATH": os.environ["PYTHONPATH"]}
    evomerge("run", "genome.yml", "--run-dir", "out", "--allow-code", "--set",
             "execution.workers=2", **path)  # fmt: skip
    done = evomerge("verify", "out", "--trial", "2", "--keep", "kept", "--allow-code", **path)
    assert "trial 2: all 4 documents of 1 split answer as recorded" in done.stdout
    evomerge("export", "out", "--trial", "2", "-o", "recipe.yml", **path)
    text = Path(workplace / "recipe.yml").read_text()
    (command,) = [one.lstrip("# ") for one in text.splitlines() if "python -c" in one]
    command = command.replace("python", sys.executable, 1)
    subprocess.run(["/bin/sh", "-c", command], cwd=workplace, check=True, capture_output=True)
    kept, built = (workplace / name / "model.safetensors" for name in ("kept", "merged"))
    assert kept.read_bytes() == built.read_bytes()


def test_a_best_file_names_packages_and_nothing_else(tmp_path, said):
    from tests.recorded_runs import record_run

    record_run(tmp_path / "out")
    best = tmp_path / "out" / "best.yml"
    content = yaml.safe_load(best.read_text())
    best.write_text(yaml.safe_dump({**content, "method_packages": {"os; os.abort()": "1"}}))
    assert "is no name of a Python module" in said("export", str(best), exit_code=1)
