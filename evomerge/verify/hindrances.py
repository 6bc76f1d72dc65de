"""What keeps a machine from giving the same bits as a run: told before anything is built."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evomerge.checks import rules
from evomerge.checks.context import CheckContext
from evomerge.evaluators.base import Evaluator
from evomerge.foundations.errors import EvomergeError, ModelError
from evomerge.foundations.findings import Finding, Severity, error, warning
from evomerge.foundations.permissions import Permissions
from evomerge.foundations.python_packages import package_digests
from evomerge.foundations.versions import SCORING_PACKAGES, versions
from evomerge.genome.model_names import ModelName
from evomerge.genome.schema import Genome
from evomerge.models.inspect import read_model
from evomerge.recipe.file import stands_for_recipe
from evomerge.recipe.plain import Recipe
from evomerge.run.changed_models import changed, is_changed

# Parallel sums of these methods depend on how many parts they are split into.
THREADED = (
    "arcee_fusion", "dare_linear", "dare_ties", "della", "della_linear", "karcher", "model_stock",
    "multislerp", "nuslerp", "slerp",
)  # fmt: skip
LOW_PRECISION = ("bfloat16", "float16")
_BACK = "Put it back, or start evomerge in the folder the run was started in."

Header = Mapping[str, Any]


def of_versions(header: Header, permissions: Permissions) -> Iterator[Finding]:
    """Packages that compute, in other versions than the run had.

    Those that a stranger's ledger names are looked for where they may be imported, too.
    """
    now = versions()
    for package in SCORING_PACKAGES:
        then = header["versions"].get(package)
        if then is not None and then != now[package]:
            yield warning(
                f"scored with {then}, here is {now[package]}: other kernels, maybe other bits",
                package,
                f"For the same bits install {package}=={then}.",
            )
    recorded = header.get("method_packages", {}) if permissions.code else {}
    for package, here in package_digests(recorded).items():
        if here != recorded[package]:
            what = f"merged by {recorded[package]}, here is {here}: maybe another merge"
            yield warning(what, package, "For the same bits install what the run had.")


def of_machine(header: Header, recipes: Sequence[Recipe]) -> Iterator[Finding]:
    """Device, CPU and threads that are not the run's."""
    from evomerge.merging.bits import is_there, machine_of

    device, threads = header["device"], header["threads"]
    if not is_there(device):
        yield warning(
            f"scored on {device}, which is not here: the cpu draws other random numbers and sums "
            "in another order, so single answers may differ",
            "device",
            "Verify on a machine like the run's.",
        )
        return
    here = machine_of(device)
    for part, then in header.get("machine", {}).items():
        if then != here.get(part):
            yield warning(
                f"scored on {then}, here is {here.get(part)}: sums run in another order, so single "
                "answers may differ",
                part,
            )
    methods = sorted({method for recipe in recipes for method in recipe.methods} & set(THREADED))
    n_cores = os.cpu_count() or 1
    if methods and threads > n_cores:
        yield warning(
            f"merged with {threads} threads, here are {n_cores} cores; the bits of "
            f"{', '.join(methods)} depend on the number, and a library may use fewer than asked",
            "threads",
        )


def of_models(header: Header, genome: Genome, permissions: Permissions) -> Iterator[Finding]:
    """Models that are gone, cannot be read, or are not what they were when the run began.

    What earlier stages found is made of theirs.
    """
    models, are_all_there = [], True
    for name in _names(genome):
        try:
            models.append(read_model(name, may_unpickle=name.text in permissions.pickle))
        except ModelError as why:
            are_all_there = False
            yield error(f"the model cannot be read: {why.problems[0].what}", name.text, _BACK)
    if are_all_there:
        context = CheckContext(genome, permissions, models)
        found = rules.of_models(context)
        yield from (one for one in found if one.severity is Severity.ERROR)
    recorded = header.get("models", {})
    yield from _changed(recorded, [(model.name, model.reference) for model in models])


def of_sources(header: Header, recipes: Sequence[Recipe]) -> Iterator[Finding]:
    """Models that what is merged was built from, and that are not what they were."""
    named = dict.fromkeys(model for recipe in recipes for model in recipe.named)
    recorded = header.get("inside", {})
    yield from _changed(
        recorded, [(one.text, one.in_recipe) for one in named if one.key in recorded]
    )


def _names(genome: Genome) -> Iterator[ModelName]:
    base = genome.genome.base_model
    named = (*(source.model for source in genome.genome.models), *([base] if base else []))
    yield from (
        name for name in dict.fromkeys(named) if not (name.is_stage or stands_for_recipe(name))
    )


def _changed(recorded: Mapping[str, str], models: Sequence[tuple[str, Any]]) -> Iterator[Finding]:
    """Models, each with its reference, whose files are others than line 1 of the ledger says."""
    for name, reference in models:
        try:
            if is_changed(recorded, reference):
                yield changed(name, "verify that run")
        except (EvomergeError, OSError, ValueError) as why:
            yield error(" ".join(str(why).split()), name, _BACK)


def of_tasks(header: Header, split: str, identity: Mapping[str, str]) -> Iterator[Finding]:
    """Tasks that are not what they were when the run began."""
    recorded = header.get("tasks", {}).get(split, {})
    for name, now in identity.items():
        if recorded.get(name, now) != now:
            yield warning(
                "the task has other documents, prompts or metrics than when the run began",
                name,
                "Put the old files back to verify that run.",
            )


def of_judges(judge: Evaluator) -> Iterator[Finding]:
    """Tasks whose answers are drawn, and those that nobody can score apart from a run."""
    parts = (part for facts in judge.facts() for part in facts.parts)
    for part in parts:
        if part.is_sampled:
            what = "its answers are drawn at random (do_sample), and another batch draws others"
            yield warning(what, part.name)
    for name in sorted(judge.unverifiable):
        yield warning("its kind cannot score a model apart from a run; it is not compared", name)


def of_precision(dtype: str) -> Iterator[Finding]:
    """Forward passes in which the batch decides near ties."""
    if dtype in LOW_PRECISION:
        yield warning(
            f"the model runs in {dtype}: documents are batched in another way, which rounds "
            "differently, so an answer that was nearly a tie may differ",
            "evaluation.dtype",
        )


def refuse(findings: Sequence[Finding]) -> None:
    """Raises what makes a build impossible, all of it."""
    problems = [finding.problem for finding in findings if finding.severity is Severity.ERROR]
    if problems:
        raise ModelError.of(problems)
