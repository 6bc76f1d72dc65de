"""Makes families of the zoo: a base, its experts, tasks and a genome each.

    python benchmarks/zoo/make.py [NAME...] -o FOLDER

What is made already is skipped. Names are those of the table in README.md; none: all tiny ones.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import yaml
from families import FAMILIES, GENOME_FILE, Course, Family
from sentences import SENTENCES
from skills import SKILLS
from task_files import write_tasks

REAL = "smollm2"
RECORD = "family.json"  # written last: a folder that has it is complete


@dataclass(frozen=True)
class Record:
    """What a family's folder says of itself once it is complete."""

    name: str
    half: str
    digest: str
    more: dict[str, Any] = field(default_factory=dict)


def barely_trained(family: Family) -> Family:
    """The family with one step of training for each model: for tests."""

    def short(course: Course) -> Course:
        return replace(course, n_steps=1)

    experts = tuple(replace(expert, course=short(expert.course)) for expert in family.experts)
    return replace(family, base=short(family.base), experts=experts)


def make(family: Family, folder: Path) -> bool:
    """Makes a family's folder unless it is there; False if it was."""
    draws = {skill: SKILLS[skill] for skill in family.skills}

    def fill() -> None:
        from lessons import train_family  # torch: not for --help

        write_tasks(folder / "tasks", family.name, draws, str(family.seed))
        train_family(family, folder, _say)

    about = Record(family.name, family.half, family.digest, {"settings": asdict(family)})
    return _made(folder, about, family.about, family.genome(folder.resolve()), fill)


def make_smollm2(folder: Path) -> bool:
    """Makes the folder of the real model unless it is there; False if it was."""
    import smollm2

    def fill() -> None:
        sizes, seed = smollm2.SIZES, str(smollm2.SEED)
        tasks = folder / "tasks"
        write_tasks(tasks, smollm2.NAME, SENTENCES, seed, sizes, smollm2.MAX_NEW_TOKENS)
        smollm2.train(folder, _say)

    about = Record(smollm2.NAME, smollm2.HALF, smollm2.DIGEST)
    return _made(folder, about, smollm2.ABOUT, smollm2.genome(folder.resolve()), fill)


def _made(
    folder: Path, record: Record, about: str, genome: dict[str, Any], fill: Callable[[], None]
) -> bool:
    """Writes a family's folder unless it is there.

    Args:
        folder: Its own.
        record: What marks it as complete.
        about: First line of the genome.
        genome: Its content.
        fill: Writes tasks and models.

    Returns:
        False if it was there already.

    Raises:
        click.ClickException: the folder holds something that this script did not make.
    """
    if _digest_of(folder) == record.digest:
        return False
    if folder.is_dir() and any(folder.iterdir()) and not (folder / GENOME_FILE).is_file():
        raise click.ClickException(f"{folder}: holds other files. Choose another --out.")
    started = time.perf_counter()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    text = yaml.safe_dump(genome, sort_keys=False)
    (folder / GENOME_FILE).write_text(f"# {about}\n{text}", encoding="utf-8")
    fill()
    content = json.dumps(asdict(record), indent=2)
    (folder / RECORD).write_text(f"{content}\n", encoding="utf-8")
    _say(f"{folder}: made in {time.perf_counter() - started:.0f} s")
    return True


def _say(text: str) -> None:
    click.echo(text, err=True)


def _digest_of(folder: Path) -> str | None:
    """Of the settings a folder was made with; None if it is absent or incomplete."""
    try:
        return str(json.loads((folder / RECORD).read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@click.command()
@click.argument("names", nargs=-1, type=click.Choice([*FAMILIES, REAL]))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Their folder.")
@click.option("--quick", is_flag=True, help="Train one step each: for tests.")
def main(names: tuple[str, ...], out: Path, quick: bool) -> None:
    """Make the families NAMES, or all of them, each in a folder of its own.

    Example: python benchmarks/zoo/make.py llama-mixed -o zoo
    """
    for name in names or FAMILIES:
        folder = out / name
        if name == REAL:
            is_new = make_smollm2(folder)
        else:
            family = FAMILIES[name]
            is_new = make(barely_trained(family) if quick else family, folder)
        if not is_new:
            _say(f"{folder}: is there already")


if __name__ == "__main__":
    main()
