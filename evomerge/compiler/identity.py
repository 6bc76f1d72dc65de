"""What makes two runs the same run: genome, models, tasks, versions, device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from evomerge import __version__
from evomerge.compiler.compiled import Compiled, all_models, named_models
from evomerge.compiler.larger_limits import larger_limits
from evomerge.compiler.recorded_genome import genome_changes, genome_digest, space_in
from evomerge.evaluators.task_contents import members_of
from evomerge.foundations.counted import counted
from evomerge.foundations.errors import EvomergeError, LedgerError, ModelError, Problem
from evomerge.foundations.python_packages import package_digests
from evomerge.foundations.reading import is_there
from evomerge.foundations.versions import versions
from evomerge.genome.methods import METHODS
from evomerge.nouns.space import to_data
from evomerge.recipe.kept_stages import stage_in
from evomerge.recipe.own_names import without_own
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.ledger.shape import models_in

Header = Mapping[str, Any]
Hear = Callable[[str, float], None]


def header_of(compiled: Compiled, hear: Hear | None = None) -> dict[str, Any]:
    """Line 1 of the ledger of a run that begins now.

    Every byte of the models is read, once in their lifetime.

    Args:
        compiled: What is searched.
        hear: Is told what is done, and the share of it that is done, from 0 to 1.

    Raises:
        ModelError: a model's files cannot be read.
    """
    import torch

    from evomerge.merging.bits import machine_of  # heavy; what changed needs none of it

    worker_factory, auto = compiled.tasks.worker_factory, compiled.context.auto
    own, made = compiled.genome.genome.merge_method_packages, compiled.context.made
    models, inside = _fingerprints(compiled, hear)
    methods = [method for recipe in made.values() for method in recipe.methods]
    packages = dict.fromkeys((*own, *METHODS.packages(methods)))
    return {
        "evomerge": __version__,
        "genome": compiled.source.name,
        "genome_digest": genome_digest(compiled.source.data),
        "seed": compiled.genome.seed,
        "merge_seed": worker_factory.seed,
        "threads": worker_factory.threads or torch.get_num_threads(),
        "workers": compiled.genome.execution.workers,
        "device": worker_factory.device,
        "dtype": worker_factory.settings.dtype,
        "machine": machine_of(worker_factory.device),
        "versions": versions(),
        **({"method_packages": package_digests(packages)} if packages else {}),
        "models": models,
        "inside": inside,
        "tasks": {split: dict(e.identity()) for split, e in compiled.tasks.evaluators.items()},
        "members": {
            split: members_of(e.contents()) for split, e in compiled.tasks.evaluators.items()
        },
        "optimizer": compiled.genome.optimizer.title,
        **({} if auto is None else {"auto": auto.to_data()}),
        "baselines": list(compiled.genome.baselines),
        "objective": compiled.genome.objective,
        "space": to_data(compiled.merge_space.space),
    }


def _fingerprints(compiled: Compiled, hear: Hear | None) -> tuple[dict[str, str], dict[str, str]]:
    """Of the models that are merged, and of those that some of them were built from."""
    from evomerge.models.fingerprint import fingerprints

    def tell(share: float) -> None:
        if hear is not None:
            hear(f"reading every byte of the models, once: {share:.0%}", share)

    models = all_models(compiled.genome)
    made = compiled.context.made
    names = [
        stage_in(name.path) if name.path in made else name.key
        for name, _ in named_models(compiled.genome)
    ]
    built_from = {
        model.key: model.in_recipe
        for recipe in made.values()
        for model in map(without_own, recipe.named)
        if model is not None and model.key not in names
    }
    try:
        found = fingerprints([*models, *built_from.values()], tell)
        n_models = len(models)
        merged = dict(zip(names, found[:n_models], strict=True))
        return merged, dict(zip(built_from, found[n_models:], strict=True))
    except (OSError, ValueError) as error:
        raise ModelError(" ".join(str(error).split()), where="genome.models") from error


def what_changed(ledger: Ledger, now: Header, compiled: Compiled) -> list[str]:
    """One line for each thing that is not as it was when the run began.

    Args:
        ledger: Of the run.
        now: The header the run would begin with today.
        compiled: The genome of today.
    """
    then = ledger.header
    limits = larger_limits(ledger, compiled.source, compiled.context)
    found = [*limits.obstacles] if limits else genome_changes(ledger, compiled.source.data)
    is_other_genome = bool(found)  # which says itself what models, tasks and space are others
    found += [] if is_other_genome else _other_space(then, now)
    inside = then.get("inside", {})  # absent in ledgers of older versions
    others = (name for name, was in inside.items() if models_in(now).get(name, was) != was)
    for name in (*_changed(then["models"], now["models"]), *others):
        found.append(f"model {name}: its files are others than when the run began")
    found += [] if is_other_genome else _of_one_time("model", then["models"], now["models"])
    for split in dict.fromkeys((*then["tasks"], *now["tasks"])):
        before, after = then["tasks"].get(split, {}), now["tasks"].get(split, {})
        for name in _changed(before, after):
            what = f"task {name} ({split}): other documents, prompts or metric"
            found.append(what + _or_other_digest(then, now))
        found += [] if is_other_genome else _of_one_time(f"{split} task", before, after)
    for name in _unequal(then["versions"], now["versions"]):
        before, after = then["versions"].get(name), now["versions"].get(name)
        found.append(f"version of {name}: was {before}, now {after}")
    found += changed_packages(then, now)
    if then["device"] != now["device"]:
        found.append(f"device: was {then['device']}, now {now['device']}")
    return found


def changed_packages(then: Header, now: Header) -> Iterator[str]:
    """One line for each package with merge methods that is another one now."""
    before, after = then.get("method_packages", {}), now.get("method_packages", {})
    for name in _unequal(before, after):
        yield f"package {name}: was {before.get(name)}, now {after.get(name)}"


def other_run(folder: RunFolder, changes: list[str]) -> LedgerError:
    """The refusal to mix scores that cannot be compared, one line per change."""
    listed = "".join(f"\n  {change}" for change in changes)
    return LedgerError(
        "the folder holds a run that began with something else",
        where=str(folder.path),
        fix="Put it back to continue that run, add --fork NEW_RUN to start one with what still "
        f"holds, or choose another folder with --run-dir. What changed:{listed}",
    )


def refusal(folder: RunFolder, genome: Any, compiled: Compiled | None) -> tuple[Problem, ...]:
    """Why a run would not go on in a folder; nothing where it would, or would begin there.

    Args:
        folder: Of the run.
        genome: Content of the genome of today.
        compiled: The same compiled; None where it has errors: then it alone is compared.
    """
    if not is_there(folder.ledger):
        return ()
    try:
        ledger = Ledger.open(folder, read_only=True)
        if compiled is None:
            changes = genome_changes(ledger, genome)
        else:
            changes = what_changed(ledger, header_of(compiled), compiled)
    except EvomergeError as error:
        return error.problems
    return other_run(folder, changes).problems if changes else ()


def _or_other_digest(then: Header, now: Header) -> str:
    """The other reason for another digest, where there may be one."""
    before, after = then["versions"].get("evomerge"), now["versions"].get("evomerge")
    if before == after:
        return ""
    return f", or recorded by evomerge {before}, whose digests of tasks may be others"


def _other_space(then: Header, now: Header) -> Iterator[str]:
    """A space that is another though the genome is the same, and why."""
    before, after = space_in(then), space_in(now)
    if before is None or after is None or before == after:
        return
    why = "another version of evomerge began it"
    if then["versions"].get("evomerge") == now["versions"].get("evomerge"):
        if after.n_dims < before.n_dims:
            why = f"weights of models that were not here then are here now, or {why}"
        elif after.n_dims > before.n_dims:
            why = f"weights of models that were here then are not here now, or {why}"
    yield f"the space: {counted(before.n_dims, 'parameter')} then, {after.n_dims:,} now: {why}"


def _unequal(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys((*then, *now)):
        if then.get(name) != now.get(name):
            yield name


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What is there both times, and is not the same."""
    yield from (name for name in _unequal(then, now) if name in then and name in now)


def _of_one_time(kind: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in (one for one in dict.fromkeys((*then, *now)) if (one in then) != (one in now)):
        yield f"{kind} {name}: {'the run began without it' if name in now else 'is not there now'}"
