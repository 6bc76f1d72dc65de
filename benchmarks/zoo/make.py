"""Makes families of the zoo: a base, its experts, tasks and a genome each.

    python benchmarks/zoo/make.py [NAME...] -o FOLDER

What is made already is skipped. Names are those of the table in README.md; none: all tiny ones.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path

import click
import yaml
from families import FAMILIES, GENOME_FILE, Course, Family
from task_files import write_tasks

RECORD = "family.json"  # written last: a folder that has it is complete


def without_training(family: Family) -> Family:
    """The family with the weights it was drawn with: for tests."""

    def short(course: Course) -> Course:
        return replace(course, n_steps=0)

    experts = tuple(replace(expert, course=short(expert.course)) for expert in family.experts)
    return replace(family, base=short(family.base), experts=experts)


def make(family: Family, folder: Path) -> bool:
    """Makes a family's folder unless it is there.

    Args:
        family: Decides everything in it.
        folder: Its own.

    Returns:
        False if it was there already.

    Raises:
        click.ClickException: the folder holds something that this script did not make.
    """
    from lessons import train_family  # torch: not for --help

    if _digest_of(folder) == family.digest:
        return False
    if folder.is_dir() and any(folder.iterdir()) and not (folder / GENOME_FILE).is_file():
        raise click.ClickException(f"{folder}: holds other files. Choose another --out.")
    started = time.perf_counter()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    genome = yaml.safe_dump(family.genome(folder.resolve()), sort_keys=False)
    (folder / GENOME_FILE).write_text(f"# {family.about}\n{genome}", encoding="utf-8")
    write_tasks(folder / "tasks", family.name, family.skills, str(family.seed))
    train_family(family, folder, lambda text: click.echo(text, err=True))
    write_record(folder, family.name, family.half, family.digest, {"settings": asdict(family)})
    click.echo(f"{folder}: made in {time.perf_counter() - started:.0f} s", err=True)
    return True


def write_record(folder: Path, name: str, half: str, digest: str, more: dict[str, object]) -> None:
    """Writes what marks a family as complete."""
    record = {"name": name, "half": half, "digest": digest, **more}
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _digest_of(folder: Path) -> str | None:
    """Of the settings a folder was made with; None if it is absent or incomplete."""
    try:
        return str(json.loads((folder / RECORD).read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(FAMILIES)))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Their folder.")
@click.option("--untrained", is_flag=True, help="Leave the weights as they were drawn: for tests.")
def main(names: tuple[str, ...], out: Path, untrained: bool) -> None:
    """Make the families NAMES, or all of them, each in a folder of its own.

    Example: python benchmarks/zoo/make.py llama-mixed -o zoo
    """
    for name in names or FAMILIES:
        family = without_training(FAMILIES[name]) if untrained else FAMILIES[name]
        if not make(family, out / name):
            click.echo(f"{out / name}: is there already", err=True)


if __name__ == "__main__":
    main()
