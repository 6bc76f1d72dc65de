"""The run folder of a genome with stages: a run folder for each, and what they found, built.

::

    genome.yml           all stages
    stages/NAME/         the run of each: an ordinary run folder
    models/DIGEST/NAME/  what a stage found, for those that merge it; named after its recipe
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evomerge.foundations.errors import EvomergeError, LedgerError
from evomerge.foundations.files import write_atomic
from evomerge.foundations.reading import is_file, is_folder, is_there, listed, read_bytes
from evomerge.genome.source import read_yaml
from evomerge.recipe.plain import Recipe
from evomerge.run.ledger.run_folder import RunFolder

STAGES = "stages"  # holds the run folder of each
_N_DIGITS = 16


@dataclass(frozen=True)
class StagedFolder:
    """Names in the run folder of a genome with stages.

    Attributes:
        path: Where it is.
    """

    path: Path

    @property
    def genome(self) -> Path:
        """Copy of the genome with all stages, overrides included."""
        return RunFolder(self.path).genome

    @property
    def stages(self) -> Path:
        """Holds the run folder of each stage."""
        return self.path / STAGES

    def stage(self, name: str) -> Path:
        """The run folder of a stage; the folder itself where there is one search without a name."""
        return self.stages / name if name else self.path

    def model(self, name: str, recipe: Recipe) -> Path:
        """Where the model is kept that a stage found; another recipe, another folder."""
        return self.models / recipe.digest[:_N_DIGITS] / name

    @property
    def models(self) -> Path:
        """Holds what stages found."""
        return self.path / "models"

    def refuse_another(self, names: Sequence[str], genome: str) -> None:
        """Does nothing where stages may be searched.

        Args:
            names: Of the stages.
            genome: The text of their genome.

        Raises:
            LedgerError: it holds another kind of run, or a stage that is none any more.
        """
        for place in (self.stages, self.models, *(self.stage(name) for name in names)):
            if os.path.islink(place):
                what = f"{place.relative_to(self.path)} is a symbolic link"
                raise _refusal(self.path, what, "Remove it, or copy what it names to its place.")
        held = RunFolder(self.path)
        if is_there(held.ledger):
            raise _refusal(self.path, "holds a run without stages")
        others = [folder.name for folder in _folders(self.stages) if folder.name not in names]
        if others:
            what = f"holds stages that the genome does not have: {', '.join(sorted(others))}"
            raise _refusal(self.path, what)
        if not _folders(self.stages):
            held.refuse_files_of_others(genome)

    def begin(self, genome: str) -> None:
        """Writes down which stages are searched here.

        Raises:
            LostFileError: it cannot be written.
        """
        if not is_file(self.genome) or read_bytes(self.genome) != genome.encode():
            write_atomic(self.genome, genome)


def begun_stages(path: Path) -> list[RunFolder]:
    """The run folders of the stages that have begun, in order; none where a run has no stages."""
    folder = StagedFolder(path)
    there = {one.name: RunFolder(one) for one in _folders(folder.stages)}
    if not there:
        return []
    try:
        data = read_yaml(folder.genome).data
        names = [str(stage["name"]) for stage in data[STAGES]]
    except (EvomergeError, KeyError, TypeError):  # somebody has changed it
        names = sorted(there)
    return [there[name] for name in names if name in there and is_there(there[name].ledger)]


def result_folder(path: Path) -> Path:
    """The folder whose ledger has what a run found: the last stage's that has begun, or its own."""
    begun = [] if is_there(RunFolder(path).ledger) else begun_stages(path)
    return begun[-1].path if begun else path


def whole_folder(path: Path) -> Path:
    """The folder of the run that a stage is of; its own where it is no stage of one."""
    above = path.parent.parent
    is_stage = path.parent.name == STAGES and is_there(RunFolder(above).genome)
    return above if is_stage else path


def _folders(place: Path) -> list[Path]:
    return [entry for entry in listed(place) if is_folder(entry)] if is_folder(place) else []


def _refusal(
    path: Path, what: str, fix: str = "Choose another folder with --run-dir."
) -> LedgerError:
    return LedgerError(what, where=str(path), fix=fix)
