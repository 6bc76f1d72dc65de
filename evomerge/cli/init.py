"""``evomerge init``: a first genome from a few questions."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evomerge.cli.arguments import as_flags, force_option, permission_options
from evomerge.cli.interrupt import StoppedError
from evomerge.cli.written import say
from evomerge.foundations.counted import counted
from evomerge.foundations.permissions import Permissions
from evomerge.foundations.text_safety import argument, one_name

if TYPE_CHECKING:
    from evomerge.compiler.starter import Answers
    from evomerge.foundations.findings import Finding

_BUDGET = 100
_SEED_KEY = "optimizer.seed_from"  # what is said of a recipe was said as it was opened
Ask = Callable[[str], str]


@click.command(
    short_help="Write a first genome from a few answers.",
    epilog="Example: evomerge init my.yml --model org/math-7b --model org/code-7b "
    "--base org/base-7b --task gsm8k_train --yes",
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default="genome.yml")
@click.option(
    "--from",
    "recipe",
    metavar="RECIPE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Open this mergekit recipe: each of its numbers becomes a range, and it is tried first.",
)
@click.option("--model", "models", multiple=True, help="Hub id or folder. May be repeated.")
@click.option("--base", help="The model they were fine-tuned from.")
@click.option(
    "--task",
    "tasks",
    multiple=True,
    metavar="NAME[/METRIC]",
    help="Task that steers the search, or KIND:VALUE of another kind. May be repeated.",
)
@click.option(
    "--holdout",
    multiple=True,
    metavar="NAME[/METRIC]",
    help="Task looked at once, at the end. May be repeated.",
)
@click.option(
    "--task-search-path",
    "search_path",
    multiple=True,
    metavar="DIR",
    help="Folder with task YAML of your own. May be repeated.",
)
@click.option("--method", help="Merge method. Default: task_arithmetic, without a base linear.")
@click.option("--budget", type=click.IntRange(min=1), help=f"Trials. Default: {_BUDGET}.")
@click.option("--yes", is_flag=True, help="Ask nothing; defaults for what no option says.")
@force_option
@permission_options
@click.pass_context
def init(
    context: click.Context,
    /,
    file: Path,
    yes: bool,
    force: bool,
    permissions: Permissions,
    **given: object,
) -> None:
    """Asks for models, base and tasks, and writes a commented genome that passes a check.

    With --from, models, base and method are those of a recipe, its numbers ranges around them.
    Options answer questions beforehand; answers may also be piped, one per line.
    """
    from evomerge.cli.written import write_result
    from evomerge.compiler.opened_recipe import opened
    from evomerge.compiler.starter import start
    from evomerge.foundations.creating import refuse_occupied
    from evomerge.foundations.library_log import kept_log
    from evomerge.run.ledger.run_folder import refuse_of_run

    refuse_of_run(file)
    refuse_occupied(file, force=force)
    try:
        with kept_log():
            answers = _answers(permissions, yes=yes, **given)  # type: ignore[arg-type]  # click's options
            say("checking models and tasks")
            if answers.seed_from:
                answers = opened(answers, permissions, lambda finding: _tell([finding]))
            starter = start(answers, str(file), permissions)
    except (click.Abort, KeyboardInterrupt) as stop:
        if not sys.stdin.isatty():
            raise click.UsageError("the answers end too early; add options or --yes.") from stop
        raise StoppedError("Stopped; nothing was written.") from stop
    findings = starter.examination.findings
    if starter.examination.compiled is None:
        _tell([_without_line(finding, str(file)) for finding in findings])
        say(f"{one_name(file)} is not written: a run could not begin.")
        context.exit(2)
    _tell([f for f in findings if not (answers.seed_from and _SEED_KEY in f.problem.where)])
    write_result(starter.text, file, force=force)
    n_dims = starter.examination.compiled.merge_space.space.n_dims
    say(f"{counted(n_dims, 'parameter')} for {counted(answers.budget, 'trial')}", err=False)
    flags = "".join(f" {argument(flag)}" for flag in as_flags(permissions))
    say(f"next    evomerge run {argument(file)}{flags}", err=False)


def _without_line(finding: Finding, file: str) -> Finding:
    """The same without the number of a line in a file that is not written."""
    return finding.at(re.sub(rf"^{re.escape(file)}:\d+: ", f"{file}: ", finding.problem.where))


def _tell(findings: Sequence[Finding]) -> None:
    for finding in findings:
        say(f"{finding.severity.value}: {finding}")


def _answers(
    permissions: Permissions,
    *,
    yes: bool,
    recipe: Path | None,
    models: tuple[str, ...],
    base: str | None,
    tasks: tuple[str, ...],
    holdout: tuple[str, ...],
    search_path: tuple[str, ...],
    method: str | None,
    budget: int | None,
) -> Answers:
    """The options, and answers to questions for what they leave open."""
    from evomerge.compiler.starter import Answers

    if recipe is not None and (models or base):
        raise click.UsageError("--from takes models and base from the recipe; leave them out.")
    needed = (("--model", models or recipe), ("--task", tasks))
    if yes:
        missing = [name for name, given in needed if not given]
        if missing:
            raise click.UsageError(f"--yes asks nothing; add {' and '.join(missing)}.")
    else:
        if recipe is None:
            models = models or _several("model to merge (Hub id or folder)", _model_problem, 1)
            if base is None:
                base = _one("base they were fine-tuned from", _model_problem)
        tasks, holdout = _asked_tasks(tasks, holdout, search_path, permissions)
    method = _known_method(method or "", yes)
    if budget is None:
        budget = _BUDGET if yes else _asked_budget()
    seed_from = "" if recipe is None else str(recipe)
    return Answers(
        models, tasks, base or "", holdout, search_path, method, budget, seed_from=seed_from
    )


def _asked_tasks(
    tasks: tuple[str, ...],
    holdout: tuple[str, ...],
    search_path: tuple[str, ...],
    permissions: Permissions,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Search and holdout tasks; an unknown one is answered with the nearest name."""

    def problem(name: str) -> str:
        from evomerge.compiler.starter import task_problems

        return "\n".join(map(str, task_problems(name, search_path, permissions)))

    tasks = tuple(name for name in tasks if not _is_refused(name, problem))
    if not tasks:
        say(_kinds())
    tasks = tasks or _several("task that steers the search", problem, 1)
    if holdout:
        return tasks, tuple(name for name in holdout if not _is_refused(name, problem))
    return tasks, _several("holdout task, looked at once at the end", problem, 0)


def _kinds() -> str:
    """What may be answered: a name, or the key of a kind and what stands under it."""
    from evomerge.evaluators import EVALUATORS
    from evomerge.genome.task_blocks import NAMED

    kinds = (f"  {kind}: ...  {EVALUATORS.summary(kind)}" for kind in EVALUATORS if kind != NAMED)
    return "\n".join(("tasks are lm-eval's by name, or of a kind of its own:", *kinds))


def _is_refused(text: str, problem: Ask) -> bool:
    what = problem(text)
    if what:
        say(what)
    return bool(what)


def _several(question: str, problem: Ask, at_least: int) -> tuple[str, ...]:
    """Answers until an empty one."""
    found: list[str] = []
    while True:
        number = f" {len(found) + 1}" if at_least else ""
        answer = _one(f"{question}{number}", problem, may_be_empty=len(found) >= at_least)
        if not answer:
            return tuple(found)
        found.append(answer)


def _one(question: str, problem: Ask, *, may_be_empty: bool = True) -> str:
    """One answer that has no problem; asked again until there is one."""
    hint = " (empty: none or no more)" if may_be_empty else ""
    while True:
        answer: str = click.prompt(
            f"{question}{hint}", default="" if may_be_empty else None, show_default=False, err=True
        )
        answer = answer.strip()
        if not answer or not _is_refused(answer, problem):
            return answer


def _model_problem(name: str) -> str:
    """Why a text can be neither a folder nor a Hub id; what is in them is for the check."""
    from evomerge.foundations.errors import nearest
    from evomerge.foundations.reading import is_folder, listed

    path = Path(name).expanduser()
    parent = path.parent
    if is_folder(path) or "+" in name or "@" in name:
        return ""
    if is_folder(parent) and parent != Path():  # of something local, so meant as a folder
        hint = nearest(path.name, [entry.name for entry in listed(parent)])
        return f"{name}: no such folder in {parent}{hint or '.'}"
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        return f"{name}: no such folder, and Hub ids read owner/name."
    return ""


def _known_method(name: str, yes: bool) -> str:
    """The method; an unknown one is answered with the nearest name."""
    from evomerge.foundations.errors import UnknownNameError
    from evomerge.genome.methods import method_named

    def problem(text: str) -> str:
        try:
            method_named(text)
        except UnknownNameError as error:
            return str(error)
        return ""

    if not name:
        return ""
    if yes:
        return method_named(name).name
    return name if not _is_refused(name, problem) else _one("merge method", problem)


def _asked_budget() -> int:
    budget: int = click.prompt(
        "trials the search may take", default=_BUDGET, type=click.IntRange(min=1), err=True
    )
    return budget
