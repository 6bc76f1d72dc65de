"""Settings may stand in several places of a genome, and what is said of them holds in each."""

from __future__ import annotations

from evomerge.checks.context import CheckContext
from evomerge.checks.extremes import end_points
from evomerge.checks.unread_settings import ignored_parameters
from evomerge.genome.schema import Genome
from evomerge.nouns.space import Choice, Integer, Real, Space


def test_a_parameter_without_meaning_is_told_wherever_it_stands():
    dead = {"density": 0.5}
    models = [{"model": "a", "parameters": dead}, "b"]
    module = {"models": models, "parameters": dead}
    block = {"merge_method": "task_arithmetic", "base_model": "c", "models": models}
    block |= {"parameters": dead, "modules": {"text_decoder": module}}
    genome = Genome.model_validate({"genome": block, "tasks": ["any"]})
    found = [str(finding) for finding in ignored_parameters(CheckContext(genome))]
    places = ("", "modules.text_decoder.", "models[0].", "modules.text_decoder.models[0].")
    assert len(found) == len(places)
    for place, told in zip(places, found, strict=True):
        assert told.startswith(f"genome.{place}parameters.density: mergekit makes nothing of")


def test_every_end_and_every_choice_is_among_the_points_that_mergekit_is_asked_about():
    space = Space((Real("a", 0, 1), Real("b", -1, 2), Integer("c", 2, 9), Choice("d", (*"xyz",))))
    points = [*end_points(space)]
    assert {point["d"] for point in points} == {*"xyz"}
    for name, ends in {"a": {0, 1}, "b": {-1, 2}, "c": {2, 9}}.items():
        assert ends <= {point[name] for point in points}
