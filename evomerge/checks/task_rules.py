"""What the tasks say of themselves: documents, worked examples, directions, templates."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.checks.context import CheckContext
from evomerge.evaluators.task_facts import TaskFacts
from evomerge.foundations.findings import Finding, error, note, warning
from evomerge.genome.task_blocks import Task
from evomerge.genome.words import SIDE_BY_SIDE, SPLITS, Split, limit_key
from evomerge.merge_spaces import merge_space_for
from evomerge.optimizers import OPTIMIZERS

Entry = tuple[str, Task, TaskFacts]  # key path, as the genome has it, what is known


def documents(context: CheckContext) -> Iterator[Finding]:
    """``limit`` or ``samples`` beyond the documents there are."""
    genome = context.genome
    for split in SPLITS:
        for where, task, facts in _of_split(context, split):
            key = "samples" if task.samples is not None else "limit"
            for_all = limit_key(split)
            wanted = task.samples or task.limit or getattr(genome, for_all)
            if not isinstance(wanted, int):
                continue
            place = f"{where}.{key}" if getattr(task, key) is not None else for_all
            for part in facts.parts:
                if wanted > part.n_available:
                    yield warning(
                        f"{wanted} documents of {part.name} are asked for, it has "
                        f"{part.n_available}; all are used",
                        place,
                    )


def told_by_kinds(context: CheckContext) -> Iterator[Finding]:
    """What kinds of tasks know of their own: an endpoint, a key, a model that judges."""
    for split, evaluator in context.evaluators.items():
        for found in evaluator.findings():
            yield found.at(split + found.problem.where.removeprefix("tasks"))


def worked_examples(context: CheckContext) -> Iterator[Finding]:
    """Worked examples that come from the documents a task is scored on."""
    for where, task, facts in _entries(context):
        place = f"{where}.num_fewshot" if task.num_fewshot is not None else where
        for part in facts.parts:
            if part.is_fewshot_scored:
                yield warning(
                    f"{part.name} has no split for worked examples; its {part.n_fewshot} show the "
                    "answers of documents that are scored",
                    place,
                    "Set fewshot_split in its YAML, or num_fewshot: 0.",
                )


def directions(context: CheckContext) -> Iterator[Finding]:
    """Metrics that are better when lower, and weights that turn a metric around."""
    for where, task, facts in _entries(context):
        if not facts.is_known:
            continue
        metric = f"{facts.key.metric},{facts.key.filter}"
        better = "higher" if facts.higher_is_better else "lower"
        if task.weight < 0:
            yield warning(
                f"weight {task.weight:g} makes the search look for a worse {metric}: {better} is "
                "better by the task's own word, and is what a positive weight asks for",
                f"{where}.weight",
                "Write a positive weight.",
            )
        elif not facts.higher_is_better:
            yield note(f"lower {metric} is better; its score is {metric} with a minus sign", where)


def lessons(context: CheckContext) -> Iterator[Finding]:
    """Search tasks that a search by gradient is scored on and cannot learn from."""
    names = [one.name for one in context.genome.optimizer.links]
    links = [name for name in names if name in OPTIMIZERS and OPTIMIZERS[name].trains]
    entries = [entry for entry in _of_split(context, "tasks") if entry[1].weight > 0]
    silent = [(where, facts) for where, _, facts in entries if not facts.teaches]
    if not links:
        return
    for where, facts in silent:
        yield note(
            f"{facts.key.task} is scored and teaches nothing: what would be right of it is not "
            f"known, and {links[0]} learns from the other tasks and its prompts alone",
            where,
        )


def folders_of_mixtures(context: CheckContext) -> Iterator[Finding]:
    """Tasks that are given a folder with the model, where candidates are several models."""
    genome = context.genome
    is_searched = merge_space_for(genome.genome).mixes
    if not (is_searched or SIDE_BY_SIDE in genome.baselines):
        return
    for where, task, facts in _entries(context):
        if facts.wants_folder:
            tell = error if is_searched else warning
            yield tell(
                f"{facts.key.task} wants the model in one folder, and a mixture is several models",
                f"{where}.{task.kind}.model",
                "Have it ask the server (model: server)"
                + (", or search another space." if is_searched else ", or drop that baseline."),
            )


def unnamed_metrics(context: CheckContext) -> Iterator[Finding]:
    """Metrics that code of the task's own names."""
    for where, task, facts in _entries(context):
        if not facts.is_known:
            wanted = "its metric" if task.metric is None else f"the metric {task.metric!r}"
            yield note(
                f"{wanted} is not among those that the YAML of {facts.key.task} names, and its own "
                "code may name others; its first document tells, before the run or with --probe",
                where,
            )


def groups(context: CheckContext) -> Iterator[Finding]:
    """Groups that have no score of their own."""
    for where, _, facts in _entries(context):
        if facts.is_pooled:
            yield note(
                f"{facts.key.task} has no score of its own; the mean over all documents of its "
                f"{len(facts.parts)} tasks is taken",
                where,
            )


def chat_template(context: CheckContext) -> Iterator[Finding]:
    """Instruct models whose prompts get no chat template."""
    instructed = [m for m in context.models if m.tokenizer and m.tokenizer.chat_template]
    wanted = context.genome.evaluation_settings.apply_chat_template
    if not instructed or context.genome.genome.chat_template is not None:
        return
    names = ", ".join(model.name for model in instructed)
    if wanted is False:
        yield warning(
            f"prompts get no chat template, and {names} learned to answer inside one: instruct "
            "models score low without it, most of all where they write their answer",
            "evaluation.apply_chat_template"
            if context.genome.apply_chat_template is None
            else "apply_chat_template",
            "Leave it out to use the template, or compare with parents scored so elsewhere.",
        )
    elif wanted is None and context.tokenizer is not None and not context.tokenizer.chat_template:
        yield warning(
            f"the merged models' tokenizer has no chat template, so prompts get none; {names} "
            "learned to answer inside one",
            "evaluation.apply_chat_template",
            "Set genome.chat_template, or apply_chat_template: false if that is meant.",
        )


def _entries(context: CheckContext) -> Iterator[Entry]:
    """Every task of every split that could be loaded."""
    for split in SPLITS:
        yield from _of_split(context, split)


def _of_split(context: CheckContext, split: Split) -> Iterator[Entry]:
    evaluator = context.evaluators.get(split)
    facts = evaluator.facts() if evaluator is not None else ()
    tasks: list[Task] = getattr(context.genome, split)
    for index, (task, known) in enumerate(zip(tasks, facts, strict=False)):
        yield f"{split}[{index}]", task, known
