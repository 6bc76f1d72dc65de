"""What the contract suite reads from a recipe is what mergekit's own planner reads."""

from __future__ import annotations

import copy

import pytest
from mergekit.architecture import get_architecture_info
from mergekit.common import ModelReference
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import SaveTensor
from mergekit.options import MergeOptions
from mergekit.plan import MergePlanner

from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.model_names import ModelName
from evomerge.merge_spaces import merge_space_for
from evomerge.models.inspect import read_model
from evomerge.models.shared_layers import describe
from tests.contract.merge_space_cases import LAYOUTS
from tests.contract.resolved import resolved
from tests.tiny_models import tiny_family

GENOMES = {
    "ties": {"merge_method": "ties"},
    "linear": {"merge_method": "linear", "base_model": None},
    "slerp": {"merge_method": "slerp", "base_model": None},
}


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return tiny_family(tmp_path_factory.mktemp("plans"), n_models=2, num_hidden_layers=3)


def planned(recipe, model, out):
    """(tensor, model or "", parameter) -> value, as mergekit's planner passes it on."""
    config = MergeConfiguration.model_validate(copy.deepcopy(dict(recipe.config)))
    architecture = get_architecture_info(config, MergeOptions())
    out_config = ModelReference.parse(str(model)).config()
    planner = MergePlanner(config, architecture, MergeOptions(), out_config)
    found = {}
    for save in planner.plan_to_disk(str(out)):
        if not isinstance(save, SaveTensor):
            continue
        task, name = save.tensor_task, save.tensor_name
        found.update({(name, "", p): value for p, value in task.parameters.items()})
        for reference, values in task.input_parameters.items():
            found.update({(name, str(reference), p): value for p, value in values.items()})
    return found


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("genome", sorted(GENOMES))
def test_mergekit_plans_the_values_the_point_means(family, tmp_path, genome, layout):
    base, *models = map(str, family)
    fields = {**LAYOUTS[layout]}
    if "filters" in fields:
        fields["filters"] = ["self_attn", "mlp"]
    definition = MergeDefinition.model_validate(
        {"models": models, "base_model": base, **GENOMES[genome], **fields}
    )
    architecture = describe([read_model(ModelName(path=model)) for model in (base, *models)])
    merge_space = merge_space_for(definition)(definition, architecture, "float32")
    recipe = merge_space.recipe(merge_space.space.decode(merge_space.space.initial))
    assert planned(recipe, base, tmp_path) == resolved(recipe, architecture)
