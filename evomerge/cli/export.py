"""``evomerge export``: winners as plain mergekit YAML."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from evomerge.cli.arguments import permission_options
from evomerge.permissions import Permissions

if TYPE_CHECKING:
    from evomerge.report.export import Export


@click.command(
    short_help="Write the winner as plain mergekit YAML.",
    epilog="Example: evomerge export runs/skills -o recipe.yml",
)
@click.argument("best_or_run", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File, or folder for several recipes."
)
@click.option("--trial", type=click.IntRange(min=0), help="This trial instead of the winner.")
@click.option("--top", type=click.IntRange(min=1), help="The best so many trials, into a folder.")
@click.option(
    "--build",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also build the model into this folder with mergekit-yaml.",
)
@permission_options
def export(
    best_or_run: Path,
    output: Path | None,
    trial: int | None,
    top: int | None,
    build: Path | None,
    permissions: Permissions,
) -> None:
    """Writes the winner of a run folder, or a best.yml, as a recipe that mergekit-yaml builds.

    A run with several objectives gives one recipe per point of its Pareto front.
    """
    from evomerge.cli.output import write_result
    from evomerge.report.export import top_of, trial_of, winners_of

    if trial is not None and top is not None:
        raise click.UsageError("--trial and --top choose different trials; give one of them.")
    if trial is not None:
        exports = [trial_of(best_or_run, trial)]
    else:
        exports = winners_of(best_or_run) if top is None else top_of(best_or_run, top)
    if top is None and len(exports) == 1:
        exports = [_placed(exports[0], output, build)]
        write_result(_yaml(exports[0], output, build), output)
    elif output is None:
        raise click.UsageError(f"{len(exports)} recipes need a folder; name it with -o.")
    else:
        exports = [one.placed(output) for one in exports]
        for one in exports:
            file = output / one.file_name
            write_result(_yaml(one, file, _below(build, one)), file)
    if build is not None:
        for one in exports:
            folder = build if len(exports) == 1 and top is None else build / _stem(one)
            _build(one, folder, permissions)


def _yaml(one: Export, file: Path | None, out: Path | None) -> str:
    names = {}
    if file is not None:
        names["recipe_file"] = str(file)
    if out is not None:
        names["out"] = str(out)
    return one.to_yaml(**names)


def _placed(one: Export, file: Path | None, build: Path | None) -> Export:
    """Its adapter, if it has one of its own, beside the recipe or else beside the model."""
    beside = file or build
    return one if beside is None else one.placed(beside.parent)


def _below(build: Path | None, one: Export) -> Path | None:
    return None if build is None else build / _stem(one)


def _stem(one: Export) -> str:
    return Path(one.file_name).stem


def _build(one: Export, out: Path, permissions: Permissions) -> None:
    from rich.console import Console
    from rich.text import Text

    from evomerge.merging.build import build

    content = one.content
    with Console(stderr=True).status(Text(f"mergekit-yaml builds {out}")):
        build(
            one.recipe,
            out,
            merge_seed=int(content["merge_seed"]),
            threads=int(content["threads"]),
            device=str(content["device"]),
            trust_remote_code=permissions.trust_remote_code,
            allow_pickle=permissions.pickle,
        )
    click.echo(f"built {out}", err=True)
