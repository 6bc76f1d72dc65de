"""Tensors that are not merged are told where the space, and not a trial, decides it."""

from __future__ import annotations

from evomerge.checks.context import CheckContext
from evomerge.checks.tensors_accounted import accounted, accounts
from evomerge.genome.schema import Genome
from evomerge.models.facts import ModelFacts, TensorFacts
from tests.contract.merge_space_cases import CASES, build

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 1}
# Their trials read other layers or models, or are no one model.
_SILENT = ("layers", "soup", "slerp_pairs", "mixture", "moe")
GENOME = Genome.model_validate(  # of which nothing is read here
    {"genome": {"models": ["a", "b"], "merge_method": "linear"}, "tasks": ["any"]}
)


def context_of(case, *tensors):
    merge_space = build(CASES[case])
    names = [source.model for source in merge_space.definition.models]
    facts = dict.fromkeys(tensors, TensorFacts((1,), "F32", 4))
    models = [
        ModelFacts(
            name=one.text, reference=one.in_recipe, key=one.text, config=CONFIG, tensors=facts
        )
        for one in names
    ]
    return CheckContext(GENOME, models=models, merge_space=merge_space)


def test_what_no_trial_merges_is_a_note_per_model_and_reason():
    case = next(name for name in CASES if name.startswith("linear"))
    context = context_of(case, "model.norm.weight", "model.layers.0.self_attn.rotary_emb.inv_freq")
    found = [*map(str, accounted(context))]
    assert len(found) == len(context.models)
    assert "is left out: transformers computes them itself" in found[0]
    assert {*accounts(context)[0].merged} == {"model.norm.weight"}


def test_a_space_that_varies_what_is_read_says_nothing_of_all_its_trials():
    for name, case in CASES.items():
        context, space = context_of(name, "model.norm.weight"), build(case).name
        found = accounts(context)
        assert not found or space not in _SILENT, name
        assert found or space != "parameters", name
        assert not [*accounted(context)], name
