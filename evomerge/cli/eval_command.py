"""``evomerge eval``: models, recipes and winners scored side by side on the same tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evomerge.cli.arguments import force_option, json_option, permission_options
from evomerge.cli.interrupt import StoppedError
from evomerge.cli.watching import watching
from evomerge.cli.written import say
from evomerge.foundations.garbage import collect_again
from evomerge.foundations.permissions import Permissions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evomerge.compiler.eval_plan import EvalPlan, TasksGiven
    from evomerge.genome.words import Split
    from evomerge.report.score_rows import ScoreRow
    from evomerge.run.side_by_side import EntrantScores


@click.command(
    "eval",
    short_help="Score models, recipes and winners side by side.",
    epilog="Example: evomerge eval examples/skills/models/base runs/skills --tasks tasks/skills",
)
@click.argument("models", metavar="MODEL|RECIPE|RUN...", nargs=-1, required=True)
@click.option(
    "--tasks",
    multiple=True,
    metavar="T[,T]",
    help="lm-eval names, a task's YAML, a folder of them, or perplexity=FILE. May be repeated.",
)
@click.option(
    "--genome",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The tasks of a genome instead, run as it says.",
)
@click.option(
    "--split",
    type=click.Choice(["tasks", "validation", "holdout"]),
    help="Which tasks of that genome.  [default: holdout]",
)
@click.option(
    "--task-search-path",
    multiple=True,
    metavar="DIR",
    help="A folder with task YAML of your own. May be repeated.",
)
@click.option("--num-fewshot", type=click.IntRange(min=0), help="Worked examples in each prompt.")
@click.option("--limit", type=click.IntRange(min=1), help="First so many documents of each task.")
@click.option("--metric", metavar="METRIC[,FILTER]", help="Read this one from every task.")
@click.option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Of the forward passes. Default: each model's own.",
)
@click.option("--batch-size", type=click.IntRange(min=1), help="Rows per pass. Default: auto.")
@click.option(
    "--chat-template/--no-chat-template",
    default=None,
    help="Wrap prompts in the chat template. Default: where the tokenizer has one.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Of drawn documents and sampled texts.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the JSON there too.",
)
@force_option
@permission_options
@json_option
def evaluate(
    models: tuple[str, ...],
    output: Path | None,
    force: bool,
    permissions: Permissions,
    as_json: bool,
    **options: Any,
) -> None:
    """Scores models, recipes, best.yml files and winners of runs on the same tasks.

    Merges are made in memory and scored as in a search. Each task has its standard error, each
    difference to the first model too, document by document; a group shows what is inside it.

    Exit code 0: all scored. 1: some could not be. 2: wrong input.
    """
    from evomerge.foundations.library_log import kept_log

    given = _given(**options)
    with kept_log():
        from evomerge.compiler.eval_plan import eval_plan
        from evomerge.foundations.creating import refuse_inside_needed, refuse_occupied
        from evomerge.run.ledger.run_folder import refuse_of_run

        if output is not None:
            _refuse_read(output, (*models, str(given.genome)))
            refuse_of_run(output)
            refuse_occupied(output, force=force)
        try:
            plan = eval_plan(models, given, permissions, lambda finding: say(str(finding)))
            if output is not None:
                refuse_inside_needed(output, plan.sources)
            collect_again()
            found = scored(plan)
        except KeyboardInterrupt as interrupt:
            raise StoppedError("Stopped; nothing is kept.", interrupt) from interrupt
    _tell(plan, found, output, force=force, as_json=as_json)
    if any(one.failures for one in found):
        click.get_current_context().exit(1)


def _refuse_read(output: Path, names: Sequence[str]) -> None:
    """Nothing takes the place of a recipe or a genome that this command reads."""
    from evomerge.foundations.errors import OccupiedError
    from evomerge.foundations.reading import is_file, real_path

    for file in filter(is_file, map(Path, names)):
        if real_path(file) == real_path(output):
            raise OccupiedError("it is read here", where=str(output), fix="Name another file.")


def _given(
    tasks: tuple[str, ...],
    genome: Path | None,
    split: Split | None,
    task_search_path: tuple[str, ...],
    device: str | None,
    dtype: str | None,
    batch_size: int | None,
    chat_template: bool | None,
    seed: int | None,
    **settings: Any,
) -> TasksGiven:
    if bool(tasks) == (genome is not None):
        raise click.UsageError("Name tasks with --tasks, or a genome that has them with --genome.")
    if split is not None and genome is None:
        raise click.UsageError("--split is one of a genome's; name it with --genome.")
    from evomerge.compiler.eval_plan import TasksGiven

    return TasksGiven(
        tasks,
        task_search_path,
        genome,
        split or "holdout",
        settings,
        {
            "device": device,
            "dtype": dtype,
            "batch_size": batch_size,
            "apply_chat_template": chat_template,
        },
        seed,
    )


def scored(plan: EvalPlan) -> list[EntrantScores]:
    """All of them, with a line for each that could not be scored."""
    from evomerge.run.side_by_side import side_by_side

    with watching() as watch:
        found = list(side_by_side(plan.entrants, plan.evaluators, watch))
    for one in found:
        for failure in one.failures:
            say(f"{one.entrant.name}: {failure}")
    return found


def _tell(
    plan: EvalPlan,
    found: Sequence[EntrantScores],
    output: Path | None,
    *,
    force: bool,
    as_json: bool,
) -> None:
    import json

    from rich.console import Console

    from evomerge.cli.score_table import draw_scores
    from evomerge.cli.written import print_json, write_result
    from evomerge.report.score_rows import all_rows

    names = [one.entrant.name for one in found]
    rows = all_rows(plan.evaluators, found)
    content = _data(plan, found, rows)
    if as_json:
        print_json(content)
    else:
        draw_scores(Console(highlight=False), rows, names)
    if output is not None:
        write_result(f"{json.dumps(content, indent=2)}\n", output, force=force)


def _data(
    plan: EvalPlan, found: Sequence[EntrantScores], rows: Sequence[ScoreRow]
) -> dict[str, Any]:
    """What programs read."""
    from evomerge.foundations.versions import versions
    from evomerge.report.score_rows import rows_data

    return {
        "evomerge_eval": 1,
        "device": plan.device,
        "versions": versions(),
        "tasks": {
            facts.key.task: {
                "n_documents": facts.n_documents,
                "num_fewshot": max(part.n_fewshot for part in facts.parts),
            }
            for facts in plan.facts
        },
        "models": [
            {
                "name": one.entrant.name,
                "recipe": one.entrant.recipe.config,
                "failures": one.failures,
            }
            for one in found
        ],
        "rows": rows_data(rows, [one.entrant.name for one in found]),
    }
