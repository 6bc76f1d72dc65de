"""``evomerge export``: winners as plain mergekit YAML, one file each or a folder of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evomerge.cli.arguments import force_option, permission_options
from evomerge.foundations.permissions import Permissions
from evomerge.foundations.text_safety import one_name

if TYPE_CHECKING:
    from evomerge.report.exporting import Export
    from evomerge.run.chosen import ChosenTrial


@click.command(
    short_help="Write the winner as plain mergekit YAML.",
    epilog="Example: evomerge export runs/skills -o recipe.yml",
)
@click.argument("best_or_run", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File, or folder for several files; an adapter's where the genome has output: adapter.",
)
@click.option("--trial", type=click.IntRange(min=0), help="This trial instead of the winner.")
@click.option("--top", type=click.IntRange(min=1), help="The best so many trials, into a folder.")
@click.option(
    "--build",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also build the model into this folder with mergekit's commands.",
)
@click.option(
    "--adapter",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the winner as a LoRA into this folder instead: exact where it merges adapters.",
)
@click.option("--rank", type=click.IntRange(min=1), help="The nearest adapter of this rank.")
@click.option("--base", metavar="MODEL", help="What it is an adapter of. Default: its base.")
@click.option("--no-score", is_flag=True, help="Do not score the adapter beside the winner.")
@force_option
@permission_options
def export(
    best_or_run: Path,
    output: Path | None,
    trial: int | None,
    top: int | None,
    build: Path | None,
    adapter: Path | None,
    rank: int | None,
    base: str | None,
    no_score: bool,
    force: bool,
    permissions: Permissions,
) -> None:
    """Writes the winner of a run folder, or a best.yml, as a recipe that mergekit builds.

    A run with several objectives gives one recipe per point of its Pareto front; a mixture of
    merged experts is a folder of files, and one of probabilities, which nothing builds, a file for
    `evomerge eval`. Nothing that is there is replaced without --force; a model appears in its
    folder when it is complete.
    """
    if adapter is None and output is not None and build is None and top is None:
        adapter, output = _meant(best_or_run, output)
    if adapter is not None:
        if output is not None or build is not None or top is not None:
            raise click.UsageError("--adapter writes one adapter: leave out -o, --build and --top.")
        winner = _only_one(best_or_run, trial)
        _write_adapter(winner, adapter, rank, base, force, permissions, not no_score)
        return
    if rank is not None or base is not None or no_score:
        raise click.UsageError("--rank, --base and --no-score are of an --adapter.")
    if trial is not None and top is not None:
        raise click.UsageError("--trial and --top choose different trials; give one of them.")
    _write_recipes(_chosen(best_or_run, trial, top), output, build, force, permissions, top is None)


def _write_recipes(
    exports: list[Export],
    output: Path | None,
    build: Path | None,
    force: bool,
    permissions: Permissions,
    may_be_one: bool,
) -> None:
    from evomerge.cli.written import say, write_result
    from evomerge.foundations.creating import (
        refuse_inside_needed,
        refuse_occupied,
        refuse_occupied_folder,
    )
    from evomerge.merging.registered_methods import register_methods
    from evomerge.report.exporting import with_changes
    from evomerge.run.ledger.run_folder import refuse_of_run

    is_one = may_be_one and len(exports) == 1
    if not is_one and output is None:
        raise click.UsageError(f"{len(exports)} recipes need a folder; name it with -o.")
    unbuilt = next((one.recipe.unbuilt for one in exports if one.recipe.unbuilt), "")
    if build is not None and unbuilt:
        raise click.UsageError(f"--build has nothing to build: {unbuilt}. Leave it out.")
    if output is None and build is None and exports[0].needs_folder:
        raise click.UsageError("The recipe is several files, which need a folder; name it with -o.")
    # A recipe alone may be for models elsewhere, and is written without a network.
    exports = with_changes(
        exports, lambda finding: say(f"warning: {finding}"), asks_hub=build is not None
    )
    jobs = [_job(one, output, build, is_one) for one in exports]
    for job in jobs:  # all of them before any work
        for place in filter(None, (job.file, job.folder)):
            refuse_inside_needed(place, job.export.sources)
        for path in filter(None, job.texts):
            refuse_of_run(path)
            refuse_occupied(path, force=True)
        if job.folder is not None:
            register_methods(job.export.packages, permissions)
            refuse_occupied_folder(job.folder, force=force, needed=job.export.sources)
            _refuse_inside(job.file, job.folder)
    jobs = [job.placed() for job in jobs]
    for job in jobs:
        for file, text in job.texts.items():
            if file is not None:
                refuse_occupied(file, text, force=force)
    for job in jobs:
        for file, text in job.texts.items():
            write_result(text, file, force=force)
        for adapter in job.export.adapters:
            _tell_adapter(adapter)
    for job in jobs:
        if job.folder is not None:
            _build(job.export, job.folder, force, permissions)


def _meant(best_or_run: Path, output: Path) -> tuple[Path | None, Path | None]:
    """A folder for an adapter where the genome has `output: adapter`, else a recipe's file."""
    from evomerge.report.adapter_export import wants_adapter

    return (output, None) if wants_adapter(best_or_run) else (None, output)


def _only_one(best_or_run: Path, trial: int | None) -> ChosenTrial:
    from evomerge.run.chosen import trial_of, winners_of

    chosen = winners_of(best_or_run) if trial is None else [trial_of(best_or_run, trial)]
    if len(chosen) > 1:
        raise click.UsageError(f"the run has {len(chosen)} winners; name one with --trial.")
    return chosen[0]


def _write_adapter(
    chosen: ChosenTrial,
    folder: Path,
    rank: int | None,
    base: str | None,
    force: bool,
    permissions: Permissions,
    is_scored: bool,
) -> None:
    from evomerge.cli.adapter_command import export_adapter
    from evomerge.foundations.library_log import kept_log

    named = None
    if base is not None:
        from evomerge.compiler.entrants import model_named

        named = model_named(base)
    with kept_log():
        export_adapter(chosen, folder, named, rank, permissions, force=force, is_scored=is_scored)


def _tell_adapter(folder: Path) -> None:
    """An adapter that lies beside the recipe, which names it."""
    from evomerge.cli.written import say
    from evomerge.foundations.reading import listed
    from evomerge.foundations.sizes import size_text

    size = size_text(sum(file.stat().st_size for file in listed(folder)))
    say(f"{one_name(folder)} ({size}) is the adapter that the recipe names: keep both")


def _refuse_inside(file: Path | None, folder: Path) -> None:
    """A model's folder holds what mergekit writes, and is put in its place as a whole."""
    if file is not None and folder.absolute() in (file.absolute(), *file.absolute().parents):
        raise click.UsageError(f"{one_name(file)} lies in the folder to be built; name another.")


def _chosen(best_or_run: Path, trial: int | None, top: int | None) -> list[Export]:
    from evomerge.report.exporting import exports
    from evomerge.run.chosen import top_of, trial_of, winners_of

    if trial is not None:
        return exports([trial_of(best_or_run, trial)])
    return exports(winners_of(best_or_run) if top is None else top_of(best_or_run, top))


@dataclass(frozen=True)
class _Job:
    """One recipe to be written, and perhaps built.

    Attributes:
        export: The recipe.
        file: Its file, or the folder of its files; None: standard output.
        folder: Of its model; None: it is not built.
        beside: Where an adapter of its own is written; None: nowhere.
    """

    export: Export
    file: Path | None
    folder: Path | None
    beside: Path | None

    def placed(self) -> _Job:
        """The same, with its own adapter, if it has one, written."""
        if self.beside is None:
            return self
        return replace(self, export=self.export.placed(self.beside))

    @property
    def texts(self) -> Mapping[Path | None, str]:
        """The recipe as its files have it; None: standard output."""
        out = {"out": str(self.folder)} if self.folder else {}
        if not self.export.needs_folder:
            named = {"recipe_file": str(self.file)} if self.file else {}
            return {self.file: self.export.to_yaml(**named, **out)}
        own = self.export.texts(self.file, **out) if self.file else {}
        return {file: text for file, text in own.items()}  # noqa: C416  # of a wider type


def _job(one: Export, output: Path | None, build: Path | None, is_one: bool) -> _Job:
    """A recipe alone has the names that were given; of several each has its own below them."""
    if is_one:
        named = output or build
        return _Job(one, output, build, None if named is None else named.parent)
    file = None if output is None else output / one.file_name
    folder = None if build is None else build / Path(one.file_name).stem
    return _Job(one, file, folder, output)


def _build(one: Export, out: Path, force: bool, permissions: Permissions) -> None:
    from rich.console import Console
    from rich.text import Text

    from evomerge.cli.written import say
    from evomerge.merging.built import build_into

    content = one.content
    with Console(stderr=True).status(Text(f"{one.recipe.program} builds {one_name(out)}")):
        build_into(
            one.recipe,
            out,
            force=force,
            merge_seed=int(content["merge_seed"]),
            threads=int(content["threads"]),
            device=str(content["device"]),
            trust_remote_code=permissions.trust_remote_code,
            allow_pickle=permissions.pickle,
        )
    say(f"built {one_name(out)}")
