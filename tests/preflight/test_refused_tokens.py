"""Genomes are refused for their tokens exactly where mergekit ends their merges."""

from __future__ import annotations

import pytest

from evomerge.checks.context import CheckContext
from evomerge.checks.refused_tokens import refused_tokens
from evomerge.compiler.compiled import named_models
from evomerge.compiler.examine import merge_space_of
from evomerge.genome.model_names import ModelName
from evomerge.genome.schema import Genome
from evomerge.models.inspect import read_model
from tests.merging.built import build_in_process
from tests.preflight.test_models import more_rows
from tests.preflight.variants import token, variant

ELSEWHERE = {"kind": "model_token", "model": "{base}", "token": "<s>"}
# tokens of a block -> why mergekit ends every merge; empty where it makes one
BLOCKS = [
    ({}, ""),
    ({"<new>": {"source": {"kind": "zero"}}}, ""),
    ({"<new>": {"source": ELSEWHERE}}, ""),
    ({"<tool>": {"source": {**ELSEWHERE, "token": "</s>"}, "force": True}}, ""),
    ({"<tool>": {"source": "{more}"}}, ""),
    ({"<s>": {}}, ""),
    ({"<s>": {"force": True}}, "token '<s>': its rows have no source"),
    ({"<new>": {}}, "token '<new>': its rows have no source"),
    ({"<new>": {"source": "{more}"}}, "token '<new>': Token '<new>' not found in model"),
    ({"<tool>": {"source": "{base}"}}, "token '<tool>': Token '<tool>' not found in model"),
    ({"<new>": {"source": {**ELSEWHERE, "token": "<none>"}}}, "Token '<none>' not found in model"),
    (
        {"<new>": {"source": {"kind": "model_token", "model": "{more}", "token_id": 500}}},
        "token '<new>': Token ID 500 out of range for model",
    ),
    ({"<new>": {"source": {**ELSEWHERE, "model": "{tuned}"}}}, "but that weight is missing"),
]


def filled(part, names):
    if isinstance(part, dict):
        return {key: filled(value, names) for key, value in part.items()}
    return part.format(**names) if isinstance(part, str) else part


def told_and_built(models, out, **definition):
    """What the rule says of a genome, and what mergekit raises on its first merge."""
    names = [ModelName(path=str(one)) for one in models]
    block = {"models": [one.path for one in names], "merge_method": "linear", **definition}
    genome = Genome.model_validate({"genome": block, "tasks": ["any"]})
    facts = tuple(read_model(one, key) for one, key in named_models(genome))
    space = merge_space_of(genome, facts, None)
    told = " ".join(map(str, refused_tokens(CheckContext(genome, models=facts, merge_space=space))))
    try:
        build_in_process(space.recipe(space.space.decode(space.space.initial)).config, out)
    except Exception as error:  # mergekit refuses with any kind; which, the cases say
        return told, error
    return told, None


@pytest.mark.parametrize(("tokens", "why"), BLOCKS)
def test_what_mergekit_refuses_of_a_block_of_tokens_is_told(tokens, why, base, tuned, tmp_path):
    more = variant(tuned, tmp_path / "more", more_rows(104), token(96, "<tool>"))
    names = {"base": base, "more": more, "tuned": tuned}
    block = {"source": "union", "tokens": filled(tokens, names)}
    told, raised = told_and_built([base, more], tmp_path / "out", tokenizer=block)
    assert bool(told) == bool(raised) == bool(why), (told, raised)
    if why:
        assert "genome.tokenizer: mergekit would refuse every merge: " in told
        assert why in told


def test_a_token_without_a_row_ends_every_merge_whose_result_has_it(base, tuned, tmp_path):
    rowless = variant(tuned, tmp_path / "rowless", token(96, "<tool>"))
    own = {"<tool>": {"source": {"kind": "zero"}}}
    blocks = [
        ({"source": "union"}, False),  # which leaves such tokens out
        ({"source": "base"}, False),
        ({"source": str(base)}, False),
        ({"source": str(rowless)}, True),
        ({"source": "union", "tokens": own}, True),
        ({"source": "base", "tokens": own}, True),
    ]
    for place, (block, is_refused) in enumerate(blocks):
        out = tmp_path / f"out-{place}"
        method = {"merge_method": "task_arithmetic", "base_model": str(base)}
        told, raised = told_and_built([rowless], out, **method, tokenizer=block)
        assert bool(told) == bool(raised) == is_refused, (block, told, raised)
        if is_refused:
            assert isinstance(raised, KeyError)
            assert f"genome.tokenizer: mergekit would refuse every merge: {rowless} has" in told
            assert "has 96 rows and none for 1 token of its tokenizer: '<tool>' (id 96)" in told
