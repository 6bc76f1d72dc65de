"""A genome file as the searches it holds, without a mistake of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from evomerge.compiler.file_mistakes import genome_of
from evomerge.foundations.errors import GenomeError, Problem
from evomerge.genome.load import in_order, read_stages
from evomerge.genome.schema import Genome
from evomerge.genome.stage_files import StageFile
from evomerge.genome.yaml_file import YamlFile
from evomerge.merge_spaces import merge_space_for


@dataclass(frozen=True)
class Stage:
    """One search of a file.

    Attributes:
        name: Empty where the file holds one search.
        genome: What is searched.
        source: Its file.
        uses: Earlier stages whose findings it merges.
    """

    name: str
    genome: Genome
    source: YamlFile
    uses: tuple[str, ...] = ()


@dataclass(frozen=True)
class GenomeFile:
    """A genome file without a mistake of its own.

    Attributes:
        source: All of it.
        stages: Its searches, in their order.
    """

    source: YamlFile
    stages: tuple[Stage, ...]

    @property
    def genome(self) -> Genome:
        """The first search, which has what is said of the whole file too."""
        return self.stages[0].genome


def read_genomes(path: Path, overrides: Sequence[str] = ()) -> GenomeFile:
    """Every search of a genome file.

    Raises:
        GenomeError: every mistake that the file alone can show, of all stages.
    """
    read = read_stages(path, overrides)
    wrong, stages = list(read.problems), []
    for one in read.stages:
        try:
            genome = genome_of(one.source)
        except GenomeError as mistakes:
            wrong += mistakes.problems
            continue
        stages.append(Stage(one.name, genome, one.source, one.uses))
    wrong += [problem for one in read.stages[:-1] for problem in _without_a_winner(one)]
    if not wrong:  # names that stand twice would be taken for one another
        wrong += _merges_of_merges(stages)
    if wrong:
        raise GenomeError.of(in_order(dict.fromkeys(wrong)))
    return GenomeFile(read.whole, tuple(stages))


def _without_a_winner(stage: StageFile) -> Iterator[Problem]:
    if stage.source.data.get("objective") == "per_task":
        yield Problem(
            f"stage {stage.name} finds a front, and later stages merge one winner",
            stage.source.where(("objective",)),
            "Use another objective, or put the stage last.",
        )


def _merges_of_merges(stages: Sequence[Stage]) -> Iterator[Problem]:
    """Mixtures of what stages find that merge what others find."""
    merging = [stage.name for stage in stages if stage.uses]
    for stage in stages:
        is_mixture = merge_space_for(stage.genome.genome).mixes
        for name in stage.uses if is_mixture else ():
            if name in merging:
                yield Problem(
                    "a mixture holds models and merges, and no merges of merges: stage "
                    f"{name} merges what another stage finds",
                    stage.source.where(("genome", "models")),
                    "Mix what an earlier stage finds, or search another space here.",
                )
