"""What is said of LoRA adapters."""

from __future__ import annotations

import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from evomerge.checks.adapter_output import adapter_output
from evomerge.checks.context import CheckContext
from evomerge.foundations.findings import Severity
from evomerge.foundations.permissions import Permissions
from evomerge.genome.merge_block import SpaceBlock
from evomerge.genome.schema import Genome
from tests.contract.merge_space_cases import CASES, build
from tests.preflight.variants import (
    adapter,
    check,
    config,
    lines,
    removed,
    variant,
    without,
    written,
)

SWAPS = SpaceBlock.model_validate({"name": "layers", "kinds": ["swap"], "longest_edit": 1})


def test_an_adapter_that_fits_gives_no_finding(base, tuned, tmp_path):
    lora = adapter(tmp_path / "lora", base_model_name_or_path=f"somewhere/{base.name}")
    assert lines(check([tuned, f"{base}+{lora}"])) == ""


def test_an_adapter_alone_is_told_its_model(tuned, tmp_path):
    lora = adapter(tmp_path / "lora", base_model_name_or_path="org/base")
    found = lines(check([tuned, lora]), Severity.ERROR)
    assert "it has no config.json; it is a LoRA adapter" in found
    assert f"Name the model it belongs to: org/base+{lora}." in found


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "LOHA"}, "is an adapter of type LOHA, expected LORA"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "repeats layers of its model"),
        ({"base_model_name_or_path": "org/other"}, "was trained on org/other, got"),
        ({"width": 48}, r"2 tensors of .* do not fit its model: .*_A\.weight \[2, 48\] for model"),
    ],
)
def test_an_adapter_that_does_not_fit_is_told_why(base, tuned, tmp_path, settings, message):
    lora = adapter(tmp_path / "lora", **settings)
    found = lines(check([tuned, f"{base}+{lora}"]))
    assert re.search(message, found), found


def test_matrices_that_are_kept_the_other_way_round_are_turned(base, tuned, tmp_path):
    name = "base_model.model.model.layers.0.mlp.up_proj"  # [64, 32] in the model
    factors = {f"{name}.lora_A.weight": (2, 64), f"{name}.lora_B.weight": (32, 2)}
    for is_transposed, expected in ((False, "2 tensors of"), (True, "")):
        lora = adapter(tmp_path / str(is_transposed), fan_in_fan_out=is_transposed)
        save_file(
            {n: np.zeros(shape, "f4") for n, shape in factors.items()},
            lora / "adapter_model.safetensors",
        )
        found = lines(check([tuned, f"{base}+{lora}"]))
        assert (expected in found) if expected else found == ""


def test_adapter_tensors_that_change_nothing_are_told(base, tuned, tmp_path):
    lora = adapter(tmp_path / "lora")
    name = "base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight"
    save_file({name: np.zeros((2, 32), "f4")}, lora / "adapter_model.safetensors")
    found = lines(check([tuned, f"{base}+{lora}"]), Severity.WARNING)
    assert f"1 tensors of {lora} change nothing that is in the files of its model: {name}" in found


def test_what_is_no_adapter_is_refused(base, tuned, tmp_path):
    found = lines(check([base, f"{base}+{tuned}"]), Severity.ERROR)
    assert "which stands behind '+', is no adapter: it has no adapter_config.json" in found


def test_an_adapter_without_its_folder_is_refused(base, tmp_path):
    found = lines(check([base, f"{base}+{tmp_path / 'gone'}"]), Severity.ERROR)
    assert f"there is no folder {tmp_path / 'gone'}" in found


def test_an_adapter_in_a_pickle_file_is_refused_unless_allowed(base, tuned, tmp_path):
    lora = adapter(tmp_path / "lora")
    removed("adapter_model.safetensors")(lora)
    written("adapter_model.bin", "")(lora)
    models = [tuned, f"{base}+{lora}"]
    assert "in pickle files only (adapter_model.bin)" in lines(check(models), Severity.ERROR)
    allowed = Permissions(pickle=frozenset({str(lora)}))
    assert "pickle" not in lines(check(models, permissions=allowed))


def test_an_adapter_without_weights_or_with_broken_ones_is_refused(base, tuned, tmp_path):
    bare = adapter(tmp_path / "bare")
    removed("adapter_model.safetensors")(bare)
    broken = variant(adapter(tmp_path / "lora"), tmp_path / "broken")
    written("adapter_model.safetensors", "nothing")(broken)
    found = lines(check([tuned, f"{base}+{bare}", f"{base}+{broken}"]), Severity.ERROR)
    assert "has no weights, expected adapter_model.safetensors" in found
    assert f"adapter_model.safetensors of {broken} is broken: it is no safetensors file" in found


def test_adapters_of_several_ranks_are_explained(base, tmp_path):
    one, two = (adapter(tmp_path / str(rank), rank=rank) for rank in (2, 4))
    found = lines(check([f"{base}+{one}", f"{base}+{two}"]), Severity.NOTE)
    assert "the adapters differ in r; each is folded into its model before merging" in found


def test_a_head_that_an_adapter_changes_is_not_missed_where_it_is_tied(base, tuned, tmp_path):
    lora = adapter(tmp_path / "lora")
    name = "base_model.model.lm_head.lora_A.weight"
    save_file({name: np.zeros((2, 32), "f4")}, lora / "adapter_model.safetensors")
    without_head = (config(tie_word_embeddings=True), without("lm_head"))
    tied = variant(base, tmp_path / "tied", *without_head)
    assert "change nothing that is in the files" not in lines(check([tuned, f"{tied}+{lora}"]))
    lost = variant(base, tmp_path / "lost", config(tie_word_embeddings=False), without("lm_head"))
    assert "change nothing that is in the files" in lines(check([tuned, f"{lost}+{lora}"]))


@pytest.mark.parametrize(
    ("models", "method", "why"),
    [
        (["a+x", "a+y"], "linear", ""),
        (["a+x", "a+y"], "ties", "ties makes no sum of adapters"),
        (["a+x", "b+y"], "linear", "the adapters are of several bases"),
        (["a+x", "b"], "linear", "not all models are LoRA adapters of a base"),
    ],
)
def test_a_winner_that_is_no_adapter_is_told_before_the_run(models, method, why):
    block = {"models": models, "merge_method": method, "base_model": "a"}
    for output in ("adapter", "recipe"):
        given = {"genome": block, "tasks": ["any"], "output": output}
        found = [*adapter_output(CheckContext(Genome.model_validate(given)))]
        assert len(found) == bool(why and output == "adapter")
        assert all(str(one).startswith(f"output: {why}") for one in found)


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (CASES["moe-parameter"], "a mixture of experts has other tensors"),
        (CASES["mixture"], "several models side by side"),
        (CASES["layers-path"], "a path has other layers than its base"),
        (CASES["layers-path"].model_copy(update={"space": SWAPS}), ""),
    ],
)
def test_a_space_whose_winners_are_no_adapters_is_refused(case, why):
    space = build(case)
    for output in ("adapter", "recipe"):
        genome = Genome(genome=space.definition, tasks=["any"], output=output)
        found = [*adapter_output(CheckContext(genome, merge_space=space))]
        assert len(found) == (output == "adapter")
        for one in found:
            assert one.severity is (Severity.ERROR if why else Severity.NOTE)
            assert str(one).startswith("output: ")
            assert (why or "is written as the nearest adapter") in str(one)
