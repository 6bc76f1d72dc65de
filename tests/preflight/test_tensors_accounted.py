"""Tensors that are not merged are told where the space, and not a trial, decides it."""

from __future__ import annotations

from evomerge.checks.context import CheckContext
from evomerge.checks.tensors_accounted import accounted, accounts
from evomerge.genome.schema import Genome
from evomerge.models.facts import ModelFacts, TensorFacts
from tests.contract.merge_space_cases import CASES, build

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 1}
_BY_TRIAL = ("layers", "soup", "slerp_pairs")  # whose trials read other layers or models
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


def test_every_space_accounts_for_its_models():
    """Which of them, or of their layers, a trial reads is told of it alone."""
    for name, case in CASES.items():
        context, space = context_of(name, "model.norm.weight", "score.weight"), build(case).name
        found = accounts(context)
        assert len(found) == len(context.models), name
        assert all(account.left_out.get("score.weight") for account in found), name
        assert {account.is_by_trial for account in found} == {space in _BY_TRIAL}, name
        if space != "moe":  # whose experts give their MLPs
            assert all(account.merged == {"model.norm.weight"} for account in found), name


def test_experts_that_are_merged_give_their_mlps():
    names = ("model.norm.weight", "model.layers.0.mlp.up_proj.weight")
    case = next(name for name, case in CASES.items() if build(case).name == "moe")
    merged = {account.model: account.merged for account in accounts(context_of(case, *names))}
    assert frozenset(names[1:]) in merged.values()
    assert any(names[0] in found for found in merged.values())
