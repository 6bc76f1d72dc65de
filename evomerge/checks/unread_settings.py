"""How a genome was understood: what is not read in it, and names that nothing has."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.checks.context import CheckContext
from evomerge.executors import EXECUTORS
from evomerge.foundations.errors import UnknownNameError
from evomerge.foundations.findings import Finding, error, note, warning
from evomerge.genome.merge_method import Base
from evomerge.genome.method_fit import is_left_out
from evomerge.genome.methods import METHODS, method_named
from evomerge.genome.yaml_file import dotted
from evomerge.trackers import TRACKERS

_BASE = "genome.base_model"


def role_of_base(context: CheckContext) -> Iterator[Finding]:
    """A base where the method has no use for one."""
    definition = context.genome.genome
    base, method = definition.base_model, method_named(definition.merge_method)
    if base is None or method.base is not Base.IGNORED:
        return
    if base not in [source.model for source in definition.models]:
        yield note(
            f"{method.name} measures from no base; {base} is scored as a baseline and gives "
            "configuration and tokenizer, and no tensors",
            _BASE,
        )


def base_among_models(context: CheckContext) -> Iterator[Finding]:
    """A base that is listed as a model too."""
    definition = context.genome.genome
    base, method = definition.base_model, method_named(definition.merge_method)
    if base is None or method.base is Base.IGNORED:
        return
    for index, source in enumerate(definition.models):
        if source.model == base:
            yield note(
                f"{base} is the base too, so it gets no parameters of its own",
                f"genome.models[{index}]",
            )


def ignored_parameters(context: CheckContext) -> Iterator[Finding]:
    """Fixed parameters that the merge method makes nothing of, as published recipes have them."""
    definition = context.genome.genome
    method = method_named(definition.merge_method)
    for place, parameters in definition.parameter_blocks:
        for name, settings in parameters.items():
            if is_left_out(method, name, settings, METHODS.has_parameter):
                is_common = any(name == parameter.name for parameter in method.parameters)
                report = note if is_common else warning
                yield report(
                    f"mergekit makes nothing of {name} in {method.name}; it is left out",
                    dotted(("genome", *place, name)),
                )


def executor(context: CheckContext) -> Iterator[Finding]:
    """An executor that the table does not hold, or that cannot run the trials."""
    execution = context.genome.execution
    try:
        kind = EXECUTORS[execution.chosen_executor]
    except UnknownNameError as unknown:
        problem = unknown.problems[0]
        yield error(problem.what, "execution.executor", problem.fix)
        return
    settings = kind.Settings.model_validate(execution.settings)
    found = [*kind.obstacles(context.genome, settings)]
    if not context.permissions.code:
        found += settings.trusted()
    for problem in found:
        yield error(problem.what, f"execution.{problem.where}", problem.fix)


def unknown_trackers(context: CheckContext) -> Iterator[Finding]:
    """Trackers that the table does not hold."""
    for index, name in enumerate(context.genome.trackers):
        if name not in TRACKERS:
            try:
                TRACKERS[name]
            except UnknownNameError as unknown:
                problem = unknown.problems[0]
                yield error(problem.what, f"trackers[{index}]", problem.fix)
