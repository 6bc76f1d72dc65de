"""What mergekit makes of equal tensors is what the table of methods says, and no more is searched.

Models that are equal everywhere are merged at both ends of every range: weights that do not
change with a parameter are those of which the table says so.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from evomerge.foundations.errors import GenomeError
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.merge_method import Base, Unmoved
from evomerge.genome.methods import METHODS
from evomerge.merge_spaces.parameter_space import ParameterSpace
from evomerge.merging.resident import ResidentMerger
from tests.contract.merge_space_cases import LLAMA, opened
from tests.tiny_models import tiny_family

TASK_VECTORS = [m.name for m in METHODS.values() if m.unmoved is not Unmoved.COUNTS]
NO_SCALE = {"linear": "normalize", "multislerp": "normalize_weights"}
NORM = "model.norm.weight"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base, two copies of it and a fine-tune."""
    top = tmp_path_factory.mktemp("models")
    base, tuned = tiny_family(top, n_models=1)
    copies = {name: top / name for name in ("one", "two")}
    for copy in copies.values():
        shutil.copytree(base, copy)
    return {"base": base, "tuned": tuned, **copies}


@pytest.fixture(scope="module")
def merger() -> ResidentMerger:
    return ResidentMerger(engine="reference", merge_seed=3)


def block(method: str, models: list[Any], base: Path | None, **fields: Any) -> MergeDefinition:
    own = METHODS[method]
    named = [model if isinstance(model, dict) else str(model) for model in models]
    data: dict[str, Any] = {"models": named[: own.max_sources], "merge_method": method}
    if base is not None and own.base is not Base.IGNORED:
        data["base_model"] = str(base)
    settings = {**opened(own), **fields.pop("parameters", {})}
    return MergeDefinition.model_validate({**data, "parameters": settings, **fields})


def space_of(definition: MergeDefinition, tensors: tuple[str, ...] = (), *equal: Path) -> Any:
    """The space; some models, or all, are told to be equal in some tensors."""
    names = [source.model for source in definition.models]
    names += [definition.base_model] if definition.base_model else []
    chosen = [n for n in names if not equal or n.text in map(str, equal)]
    alike = {tensor: dict.fromkeys(chosen, 0) for tensor in tensors}
    return ParameterSpace(definition, replace(LLAMA, alike=alike), "float32")


def ends(merger: ResidentMerger, space: Any, *names: str) -> Iterator[dict[str, torch.Tensor]]:
    """The merged weights at both ends of some parameters, or of all, the others half way."""
    for end in (0.0, 1.0):
        genotype = np.full(space.space.n_dims, 0.5)
        for index, parameter in enumerate(space.space):
            if not names or parameter.name in names:
                genotype[index] = end
        module = merger.merge(space.recipe(space.space.decode(genotype))).module
        yield {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.mark.slow
def test_the_table_says_what_mergekit_makes_of_equal_tensors(folders, merger):
    expected = load_file(folders["base"] / "model.safetensors")
    tried = 0
    for name, method in METHODS.items():
        definition = block(name, [folders["one"], folders["two"]], folders["base"])
        try:
            space = space_of(definition)
        except GenomeError:
            continue  # nothing to search
        tried += 1
        low, high = ends(merger, space)
        stays = method.keeps_equal or space.given.normalize
        for tensor, value in expected.items():
            if stays:
                assert torch.allclose(low[tensor], value, rtol=1e-5, atol=1e-7), (name, tensor)
                assert torch.allclose(high[tensor], value, rtol=1e-5, atol=1e-7), (name, tensor)
        if stays:
            assert space_of(definition, tuple(names_of_all())).space.n_dims == 0
        else:
            assert not torch.allclose(low[NORM], high[NORM])
            assert space_of(definition, tuple(names_of_all())).space == space.space
    assert tried >= len(METHODS) - 1  # arcee_fusion has no parameters


@pytest.mark.parametrize("name", sorted(NO_SCALE))
def test_weights_that_are_not_divided_by_their_sum_count_for_equal_tensors(folders, merger, name):
    models = [folders["one"], folders["two"]]
    definition = block(name, models, None, parameters={NO_SCALE[name]: False})
    space = space_of(definition, tuple(names_of_all()))
    assert space.idle == ()
    low, high = ends(merger, space)
    assert not torch.allclose(low[NORM], high[NORM])


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("name", TASK_VECTORS)
def test_a_source_that_is_the_base_takes_part_where_the_table_says_so(
    folders, merger, name, normalize
):
    # The other weight is fixed: else weights that are divided are searched as shares.
    tuned = {"model": str(folders["tuned"]), "parameters": {"weight": 0.5}}
    definition = block(
        name,
        [folders["one"], tuned],
        folders["base"],
        normalize=normalize,
        parameters={"weight": {"range": [0.2, 1]}},
    )
    whole = space_of(definition)
    own = [p.name for p in whole.space if "[one" in p.name]
    less = space_of(definition, tuple(names_of_all()), folders["one"], folders["base"])
    left_out = [one.name for one in less.idle]
    counts = METHODS[name].unmoved is Unmoved.DIVIDES and normalize
    assert left_out == [n for n in own if not (counts and n.startswith("weight"))]
    assert {one.model for one in less.idle} <= {"one"}
    if left_out:
        low, high = ends(merger, whole, *left_out)
        assert all(torch.equal(low[tensor], high[tensor]) for tensor in low)
    if counts:
        low, high = ends(merger, whole, *own)
        assert not all(torch.equal(low[tensor], high[tensor]) for tensor in low)


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_equal_tensors_stay_what_they_are_where_their_weights_are_not_searched(
    folders, merger, method
):
    definition = block(method, [folders["one"], folders["two"]], folders["base"], filters=["norm"])
    space = space_of(definition, tuple(name for name in names_of_all() if "norm" in name))
    assert {one.place for one in space.idle} == {"norm"}
    assert space.space.n_dims > 0
    expected = load_file(folders["base"] / "model.safetensors")[NORM]
    for merged in ends(merger, space):
        assert torch.allclose(merged[NORM], expected, rtol=1e-5, atol=1e-7)


def names_of_all() -> Iterator[str]:
    yield from LLAMA.embeddings
    for layer in range(LLAMA.n_layers):
        yield from (name.replace("{layer}", str(layer)) for name in LLAMA.layer_tensors)
    yield from (*LLAMA.final_norm, *LLAMA.head)
