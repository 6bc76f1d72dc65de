"""The table of merge methods says what the installed mergekit says."""

from __future__ import annotations

import pytest
from mergekit import merge_methods
from mergekit.evo.genome import METHOD_PARAM_MAPS
from mergekit.merge_methods.base import BasePolicy

from evomerge.foundations.errors import UnknownNameError
from evomerge.genome.merge_method import Base
from evomerge.genome.methods import METHODS, method_named

REGISTERED = {method.spec.name: method.spec for method in merge_methods.registered_methods()}
EVOLVE_NORMALIZES = {"ties", "dare_ties", "linear"}  # mergekit.evo.genome.genotype_merge_config


@pytest.fixture(params=sorted(METHODS))
def pair(request):
    return METHODS[request.param], REGISTERED[request.param]


def test_the_table_holds_every_registered_method_and_no_other():
    assert sorted(METHODS) == sorted(REGISTERED)


def test_parameters_have_the_names_scopes_and_kinds_of_mergekit(pair):
    method, spec = pair
    ours = {p.name: (p.scope.value, p.kind) for p in method.parameters}
    theirs = {p.name: (p.scope.value, scalar(p.value_type)) for p in spec.parameters}
    assert ours == theirs


def scalar(annotation):
    """float from Optional[float]."""
    return next(
        (t for t in (bool, int, float) if t in getattr(annotation, "__args__", ())), annotation
    )


def test_every_parameter_without_a_default_is_searched(pair):
    method, spec = pair
    required = {p.name for p in spec.parameters if p.required}
    assert required <= {p.name for p in method.parameters if p.searched}


def test_defaults_are_those_of_mergekit_and_told_where_a_recipe_may_leave_them(pair):
    method, spec = pair
    theirs = {p.name: p.default for p in spec.parameters if not p.required}
    for parameter in method.parameters:
        if parameter.default is not None:
            assert theirs[parameter.name] == parameter.default, parameter.name
        elif parameter.searched or parameter.name == method.normalized_by:
            assert theirs.get(parameter.name) is None, parameter.name


def test_the_base_is_treated_alike(pair):
    method, spec = pair
    assert method.base.value == spec.contract.base.value


def test_the_numbers_of_models_are_those_the_contract_allows(pair):
    method, spec = pair
    contract = spec.contract
    has_base = contract.base is BasePolicy.REQUIRED

    def accepted(n_sources, with_base):
        models = [f"m{i}" for i in range(n_sources)] + ["base"] * with_base
        try:
            contract.validate_ids(models, "base" if with_base else None)
        except ValueError:
            return False
        return True

    bases = {Base.REQUIRED: [True], Base.IGNORED: [False], Base.OPTIONAL: [False, True]}
    for with_base in bases[method.base]:
        for n in range(1, 6):
            ours = n >= method.min_sources and n <= (method.max_sources or 99)
            assert accepted(n, with_base) == ours, (n, with_base)
    assert has_base == (method.base is Base.REQUIRED)


def test_ranges_stay_inside_what_the_parameter_can_be(pair):
    method, _ = pair
    for parameter in method.parameters:
        if parameter.range is not None:
            low, high = parameter.bounds
            assert low <= parameter.range.low < parameter.range.high <= high
        assert not (parameter.searched and parameter.range is None)


def test_normalize_is_the_default_of_mergekit_evolve_where_it_knows_the_method(pair):
    method, spec = pair
    defaults = {p.name: p.default for p in spec.parameters if not p.required}
    if method.normalized_by is None:
        expected = False
    elif method.normalized_by == "always":
        expected = True
    elif method.name in METHOD_PARAM_MAPS:
        expected = method.name in EVOLVE_NORMALIZES
    else:
        expected = defaults[method.normalized_by]
    assert method.normalize == expected


def test_an_unknown_method_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown merge method 'dareties'; did you mean"):
        method_named("dareties")


def test_an_unknown_parameter_is_answered_with_the_nearest():
    with pytest.raises(
        UnknownNameError, match="ties has no parameter 'densty'; did you mean 'density'"
    ):
        METHODS["ties"].parameter("densty")
