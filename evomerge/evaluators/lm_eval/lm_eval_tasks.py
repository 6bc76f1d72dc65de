"""Task names of the genome -> lm-eval task objects, ready to build requests from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.group import Group
from lm_eval.config.group import AggMetricConfig

from evomerge.evaluators.chosen_documents import sampled_documents
from evomerge.evaluators.lm_eval import metrics
from evomerge.evaluators.lm_eval.failures import problem_of
from evomerge.evaluators.lm_eval.folders import missing, unreadable
from evomerge.evaluators.lm_eval.index import TaskIndex
from evomerge.evaluators.lm_eval.reply_language import (
    ReplyLanguage,
    put_first,
    reply_language_of,
    unfit,
)
from evomerge.foundations.errors import GenomeError, Problem, nearest
from evomerge.foundations.reading import is_file, is_folder
from evomerge.genome.task_blocks import Task
from evomerge.nouns.evaluation import MetricKey


@dataclass(frozen=True)
class Leaf:
    """One lm-eval task and the documents of it that are used.

    Attributes:
        name: Task name, also of its documents.
        task: lm-eval's task object.
        limit: First so many documents, None for all.
        samples: Indices of the documents, ascending; None for all or the first.
        language: What replies have to be in; the first of the task's filters.
    """

    name: str
    task: Any
    limit: int | None = None
    samples: list[int] | None = None
    language: ReplyLanguage | None = None

    def number(self, position: int) -> int:
        """Of a document, which lm-eval counts by its place among those chosen by ``samples``."""
        return position if self.samples is None else self.samples[position]


@dataclass(frozen=True)
class TaskEntry:
    """One entry of the genome's ``tasks``: a task, or the tasks of a group or tag.

    Attributes:
        key: The metric read from it.
        higher_is_better: Direction of that metric.
        leaves: Its tasks.
        group: Aggregates the leaves; None for a single task.
        is_pooled: Whether lm-eval gives the group no score of its own.
        requested: The metric as the genome names it; None for the default.
        is_open: Whether code of the task's own names its metrics: results have the last word.
        is_known: Whether the metric is one of those that the task's YAML names.
        declared: Metric and direction as the YAML tells them, whatever results say; None where
            it does not.
        is_settled: Whether first documents named it: from then on no other is read.
    """

    key: MetricKey
    higher_is_better: bool
    leaves: tuple[Leaf, ...]
    group: Group | None = None
    is_pooled: bool = False
    requested: str | None = None
    is_open: bool = False
    is_known: bool = True
    declared: tuple[MetricKey, bool] | None = None
    is_settled: bool = False


def load(
    tasks: Sequence[Task],
    search_path: Sequence[str],
    gen_kwargs: Mapping[str, Any],
    seed: int,
    *,
    unsafe_code: bool = False,
) -> tuple[TaskEntry, ...]:
    """Builds the tasks, datasets included.

    Args:
        tasks: As the genome names them.
        search_path: Folders with task YAML of the user's; they win over lm-eval's own.
        gen_kwargs: Overrides of the tasks' generation settings.
        seed: Root seed of drawn documents.
        unsafe_code: Whether tasks may run code that a model wrote.

    Raises:
        GenomeError: every mistake found, together.
    """
    problems = [*unreadable(search_path)]
    if problems:  # nothing beside them may be opened
        raise GenomeError.of([*missing(search_path), *problems])
    problems = [*missing(search_path), *_repeated_names(tasks)]
    # lm-eval looks into what is named, and pathlib raises on a name too long to be a folder.
    index = TaskIndex([folder for folder in search_path if is_folder(folder)])
    entries: list[TaskEntry] = []
    for position, task in enumerate(tasks):
        found = _load_one(index, task, f"tasks[{position}]", gen_kwargs, seed, unsafe_code)
        if isinstance(found, TaskEntry):
            problems += _overlap(entries, found, f"tasks[{position}]")
            entries.append(found)
        else:
            problems += found
    if problems:
        raise GenomeError.of(problems)
    return tuple(entries)


def _repeated_names(tasks: Sequence[Task]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for position, task in enumerate(tasks):
        if task.name in first:
            yield Problem(
                f"{task.name!r} is already tasks[{first[task.name]}]",
                f"tasks[{position}].name",
                "Keep one of them.",
            )
        first.setdefault(task.name, position)


def _overlap(entries: Sequence[TaskEntry], new: TaskEntry, where: str) -> Iterator[Problem]:
    owners = {leaf.name: entry.key.task for entry in entries for leaf in entry.leaves}
    for leaf in new.leaves:
        owner = owners.get(leaf.name)
        if owner is not None and owner != new.key.task:
            yield Problem(f"task {leaf.name!r} is also part of {owner!r}", where, "Drop one.")


def _load_one(
    index: TaskIndex,
    task: Task,
    where: str,
    gen_kwargs: Mapping[str, Any],
    seed: int,
    unsafe_code: bool,
) -> TaskEntry | list[Problem]:
    built = _build(index, task.name, where)
    if isinstance(built, Problem):
        return [built]
    objects, group = built
    is_pooled = group is not None and not group.has_aggregation
    problems = [*_unusable(objects, where, unsafe_code)]
    if (language := reply_language_of(task)) is not None:
        problems += unfit(language, objects, where)
    if problems:
        return problems
    chosen = _choose_metric(task, list(objects.values()), group, where)
    if isinstance(chosen, Problem):
        return [chosen]
    (metric, filter_name), higher_is_better, is_known = chosen
    leaves: list[Leaf] = []
    for own_name, item in objects.items():
        name = own_name if group else task.name
        _configure(item, task, gen_kwargs)
        samples = sampled_documents(task, name, len(item.eval_docs), seed, where)
        if isinstance(samples, Problem):
            return [samples]
        language = reply_language_of(task)  # it keeps what it saw: each task has its own
        if language is not None:
            put_first(language, item)
        leaves.append(Leaf(name, item, task.limit, samples, language))
    key = MetricKey(task.name, metric, filter_name)
    is_open = any(map(metrics.is_open, objects.values()))
    return TaskEntry(
        key,
        higher_is_better,
        tuple(leaves),
        group,
        is_pooled,
        requested=task.metric,
        is_open=is_open,
        is_known=is_known,
        declared=(key, higher_is_better) if is_known else None,
    )


def _build(
    index: TaskIndex, name: str, where: str
) -> tuple[Mapping[str, Any], Group | None] | Problem:
    """lm-eval's task objects behind a name, and the group that holds them."""
    unread = index.unread_file_of(name)
    manager = index.manager_for(name) if unread is None else index.manager
    if unread is None and name not in manager.task_index and not is_file(name):
        what = f"unknown task {name!r}{nearest(name, manager.all_tasks)}"
        fix = "Check the spelling, or add the folder of its YAML to `task_search_path`."
        return Problem(what, f"{where}.name", fix)
    try:
        loaded = manager.load([str(unread or name)])
    # A task definition downloads data and runs code of its own: anything may come out.
    except (Exception, SystemExit) as error:
        return problem_of(error, name, f"{where}.name", index.config_of(name))
    objects, groups = loaded["tasks"], loaded["groups"]
    if name in groups or len(objects) == 1:
        return objects, groups.get(name)
    tag = Group(name=name)
    for item in objects.values():
        tag.add(item)
    return objects, tag


def _unusable(objects: Mapping[str, Any], where: str, unsafe_code: bool) -> Iterator[Problem]:
    for name, item in objects.items():
        if metrics.runs_code(item) and not unsafe_code:
            yield Problem(
                f"task {name!r} runs code that the model wrote",
                f"{where}.name",
                "Add --confirm-run-unsafe-code if it may, best inside a container.",
            )
        if getattr(item, "MULTIMODAL", False):
            yield Problem(f"task {name!r} needs images or sound; not supported", where)
        for metric in metrics.not_found(item):
            known = metrics.known()
            yield Problem(
                f"task {name!r} has the unknown metric {metric!r}{nearest(metric, known)} "
                f"(known: {', '.join(known)})",
                f"{where}.name",
                "Mend metric_list in its YAML.",
            )


def _choose_metric(
    task: Task, objects: Sequence[Any], group: Group | None, where: str
) -> tuple[metrics.MetricFilter, bool, bool] | Problem:
    """The metric, its direction, and whether the task's YAML tells both.

    What its YAML does not tell of an open task is left to the results.
    """
    is_open = any(map(metrics.is_open, objects))
    reported = metrics.reported_by(objects[0]) if objects else []
    if group is not None:
        reported = _reported_by_group(group, objects)
    chosen = metrics.choose(task.metric, reported, task=task.name, where=where)
    is_known = not isinstance(chosen, Problem)
    if isinstance(chosen, Problem):
        if not is_open and group is not None and not reported:
            return _nothing_in_common(task.name, objects, where)
        if not is_open:
            return chosen
        chosen = metrics.expected(task.metric, reported)
    higher_is_better = metrics.direction(objects, chosen[0])
    if higher_is_better is None:
        if is_known:
            return metrics.undirected(task.name, chosen[0], where)
        higher_is_better = metrics.likely_direction(objects)
    if group is not None and not group.has_aggregation:
        # lm-eval gives such a group, or a tag, no score of its own: the mean over documents.
        group.aggregate_metric_list = [
            AggMetricConfig(metric=metric, filter_list=[name]) for metric, name in reported
        ]
    return chosen, higher_is_better, is_known


def _nothing_in_common(name: str, objects: Sequence[Any], where: str) -> Problem:
    """A group whose tasks cannot be pooled."""
    each = [
        f"{metric},{filter_}" for item in objects for metric, filter_ in metrics.reported_by(item)
    ]
    return Problem(
        f"the tasks of {name!r} have no metric in common ({', '.join(dict.fromkeys(each))})",
        where,
        "Name its tasks one by one with a metric each, or give it an aggregate_metric_list.",
    )


def _reported_by_group(group: Group, objects: Sequence[Any]) -> list[metrics.MetricFilter]:
    per_task = [metrics.reported_by(item) for item in objects]
    if not group.has_aggregation:
        return [pair for pair in per_task[0] if all(pair in pairs for pairs in per_task)]
    anywhere = list(dict.fromkeys(pair for pairs in per_task for pair in pairs))
    return [
        pair
        for config in group.aggregate_metric_list or []
        for pair in anywhere
        if pair[0] == config.metric and pair[1] in (config.filter_list or [pair[1]])
    ]


def _configure(item: Any, task: Task, gen_kwargs: Mapping[str, Any]) -> None:
    """Applies the run's settings by the rules of `lm_eval.simple_evaluate`."""
    if gen_kwargs and item.get_config("output_type") == "generate_until":
        item.set_config(key="generation_kwargs", value=dict(gen_kwargs), update=True)
    own = item.get_config("num_fewshot")
    # A task that asks for 0 examples keeps 0: its prompt has no room for any.
    if own is None or (own != 0 and task.num_fewshot is not None):
        item.set_config(key="num_fewshot", value=task.num_fewshot or 0)
