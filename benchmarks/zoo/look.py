"""Whether families leave a search something to find: parents and fixed recipes.

    python benchmarks/zoo/look.py FOLDER/NAME...

Scores on the search documents of each task. A family has room where the experts are good at their
own skill and bad at the others', and the uniform average is clearly below the experts' own scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import torch
from families import GENOME_FILE

from evomerge.compiler.examine import compile_genome
from evomerge.executors.worker import Worker
from evomerge.genome.load import load_genome
from evomerge.merge_spaces.baselines import baselines
from evomerge.nouns.evaluation import Outcome
from evomerge.nouns.trial import Candidate


def table(family: Path) -> Iterator[str]:
    """The lines of a family's Markdown table."""
    compiled = compile_genome(*load_genome(family / GENOME_FILE))
    worker = compiled.tasks.worker_factory(compiled.tasks.evaluators)
    objective = compiled.tasks.objectives["tasks"]
    labels = [_short(task.name, family.name) for task in objective.tasks]
    yield f"**{family.name}**, {compiled.merge_space.space.n_dims} dimensions"
    yield ""
    yield f"| | {' | '.join(labels)} | mean |"
    yield "|---" * (len(labels) + 2) + "|"
    for candidate in baselines(compiled.merge_space):
        outcome = outcome_of(worker, candidate)
        cells = [outcome.failure] * (len(labels) + 1)
        if outcome.evaluation is not None:
            scores = [score.value for score in objective.task_scores(outcome.evaluation)]
            cells = [f"{score:.3f}" for score in (*scores, sum(scores) / len(scores))]
        yield f"| {str(candidate.origin).rsplit('/', 1)[-1]} | {' | '.join(cells)} |"
    yield ""


def outcome_of(worker: Worker, candidate: Candidate) -> Outcome:
    """What comes of a candidate on the search tasks."""
    steps = worker.run(candidate, "tasks")
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            outcome: Outcome = finished.value
            return outcome


def _short(task: str, family: str) -> str:
    return task.removeprefix(f"zoo_{family}_").removesuffix("_search")


@click.command()
@click.argument("families", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--threads", default=1, show_default=True, help="Of each family's evaluation.")
def main(families: tuple[Path, ...], threads: int) -> None:
    """Print a table for each of the family folders FAMILIES.

    Example: python benchmarks/zoo/look.py zoo/llama-mixed
    """
    torch.set_num_threads(threads)
    for family in families:
        for line in table(family):
            click.echo(line)


if __name__ == "__main__":
    main()
