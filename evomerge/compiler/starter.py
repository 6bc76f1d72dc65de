"""A first genome from a few answers: commented, sized to its budget, checked as a run would be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import yaml

from evomerge.compiler.compiled import Examination
from evomerge.compiler.examine import examine
from evomerge.compiler.file_mistakes import genome_of
from evomerge.compiler.task_kinds import given_in
from evomerge.evaluators import EVALUATORS
from evomerge.evaluators.composite import evaluator_for
from evomerge.foundations.errors import (
    EvomergeError,
    GenomeError,
    Problem,
    UnknownNameError,
    nearest,
)
from evomerge.foundations.findings import Severity, error, problems
from evomerge.foundations.permissions import Permissions
from evomerge.foundations.reading import is_file, is_folder
from evomerge.foundations.text_safety import one_name
from evomerge.genome.merge_method import Scope
from evomerge.genome.methods import METHODS
from evomerge.genome.source import parse_yaml
from evomerge.genome.task_blocks import NAMED, EvaluationBlock, Task
from evomerge.inference import ENGINES

TRIALS_PER_PARAMETER = 5  # below that an optimizer has hardly begun when the budget is spent
_OTHER_GROUPS = 3  # embeddings, final norm and head have values of their own
_LIMIT = 200  # documents of a search task: enough to rank merges, few enough to wait for


@dataclass(frozen=True)
class Answers:
    """What a person says about the merge they want.

    Attributes:
        models: Hub ids or folders.
        base: Hub id or folder; empty where there is none.
        tasks: What steers: ``name``, ``name/metric,filter``, or ``KIND: value``.
        holdout: Tasks looked at once, written likewise.
        search_path: Folders with task YAML of their own.
        method: A merge method; empty for task arithmetic, or linear without a base.
        budget: Trials.
        block: The ``genome:`` block as YAML lines; empty: made of the above.
        seed_from: A recipe that is tried first; empty: none.
    """

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    base: str = ""
    holdout: tuple[str, ...] = ()
    search_path: tuple[str, ...] = ()
    method: str = ""
    budget: int = 100
    block: tuple[str, ...] = ()
    seed_from: str = ""

    @property
    def merge_method(self) -> str:
        """The method, chosen where the person left it open."""
        return self.method or ("task_arithmetic" if self.base else "linear")

    @property
    def groups(self) -> int:
        """Groups of layers that the budget can search; 0 where one set of values is enough."""
        n_sources = len([model for model in self.models if model != self.base])
        scopes = [p.scope for p in METHODS[self.merge_method].parameters if p.searched]
        per_group = sum(1 if scope is Scope.SHARED else n_sources for scope in scopes)
        affordable = self.budget // TRIALS_PER_PARAMETER // max(per_group, 1) - _OTHER_GROUPS
        return affordable if affordable >= 2 else 0


@dataclass(frozen=True)
class Starter:
    """A genome file to be written.

    Attributes:
        text: The file.
        examination: What a check says of it.
    """

    text: str
    examination: Examination


@dataclass(frozen=True)
class _Size:
    """What a first look at models and tasks shows, for the file to fit them.

    Attributes:
        n_layers: Layers of the models, 0 where nobody knows.
        limits: Documents of each search task, or of each part of a group; None for all.
        vocabulary: ``tokenizer_source``, empty where the models share one tokenizer.
        language: The part that writes, of models with several; empty of others.
    """

    n_layers: int = 0
    limits: tuple[int | None, ...] = ()
    vocabulary: str = ""
    language: str = ""


def start(answers: Answers, file: str, permissions: Permissions) -> Starter:
    """The genome of the answers, and what ``evomerge check`` says of it; writes nothing.

    Args:
        answers: What the person wants.
        file: How the genome's file will be called.
        permissions: What the user allows models and tasks.
    """
    size = _Size()
    first = _checked(_text(answers, file, size), file, permissions)
    if _asks_for_vocabulary(first.examination):
        size = _Size(vocabulary="base" if answers.base else "union")
        first = _checked(_text(answers, file, size), file, permissions)
    compiled = first.examination.compiled
    if compiled is None:
        return first
    parts = [task.parts for task in compiled.tasks.evaluators["tasks"].facts()]
    size = replace(
        size,
        n_layers=_n_layers(compiled.context.models),
        limits=tuple(_limit([part.n_available for part in each]) for each in parts),
        language=compiled.merge_space.architecture.language,
    )
    text = _text(answers, file, size)
    fitted = first if text == first.text else _checked(text, file, permissions)
    # Not every method leaves a part as it is; all parts alike every method merges.
    return first if size.language and fitted.examination.compiled is None else fitted


def _limit(n_documents: Sequence[int]) -> int | None:
    """Documents of each part of a task, None where it is short enough."""
    return max(_LIMIT // len(n_documents), 1) if sum(n_documents) > _LIMIT else None


def task_problems(name: str, search_path: Sequence[str], permissions: Permissions) -> list[Problem]:
    """Why a task cannot be used: unknown, with the nearest name, or without its data.

    Args:
        name: As in ``Answers.tasks``.
        search_path: Folders with task YAML.
        permissions: What the user allows tasks.
    """
    try:
        evaluator_for(
            [Task.model_validate(_entry(name))],
            EvaluationBlock(),
            ENGINES[EvaluationBlock().backend],
            search_path=search_path,
            permissions=permissions,
        ).prepare()
    except (GenomeError, UnknownNameError) as why:
        return [Problem(p.what, name, p.fix) for p in why.problems]
    return []


def _entry(text: str) -> dict[str, Any]:
    """A task of the genome: ``name/metric,filter``, or ``KIND: value`` of another kind.

    A value in braces is a mapping of its settings, one in brackets a list. A file of a task keeps
    its slashes.
    """
    kind, colon, value = text.partition(":")
    if colon and kind in EVALUATORS:
        return {kind: given_in(value)}
    if colon and nearest(kind, [*EVALUATORS]) and not is_file(text):
        return {kind: value}  # misspelt, which is told
    if is_file(text) or "/" not in text:
        return {NAMED: text}
    name, _, metric = text.rpartition("/")
    return {NAMED: name, "metric": metric}


def _checked(text: str, file: str, permissions: Permissions) -> Starter:
    try:
        source = parse_yaml(text, file)
        return Starter(text, examine(genome_of(source), source, permissions))
    except EvomergeError as wrong:
        found = tuple(error(p.what, p.where, p.fix) for p in wrong.problems)
        return Starter(text, Examination(found))


def _asks_for_vocabulary(examination: Examination) -> bool:
    """Whether the models' tokenizers differ, and the genome has to choose."""
    return any("tokenizer_source" in p.fix for p in problems(examination.findings, Severity.ERROR))


def _n_layers(models: Sequence[Any]) -> int:
    """Layers of the models, 0 where their configuration does not say."""
    if not models:
        return 0
    config = models[0].config
    text = config.get("text_config", {})
    for name in ("num_hidden_layers", "n_layer", "num_layers"):
        if isinstance(config.get(name, text.get(name)), int):
            return int(config.get(name, text.get(name)))
    return 0


def _text(answers: Answers, file: str, size: _Size) -> str:
    return "\n".join(_lines(answers, file, size)) + "\n"


def _lines(answers: Answers, file: str, size: _Size) -> Iterator[str]:
    yield "# What is merged, what may vary, what judges it. `evomerge schema` holds every key."
    yield f"#   evomerge check {file}    before it starts"
    yield f"#   evomerge run {file}      the search; the same command continues it"
    if answers.seed_from:
        yield f"# Opened from {one_name(answers.seed_from)}: ranges begin at the numbers there."
    yield "genome:"
    yield from answers.block or _block(answers, size)
    if size.vocabulary:
        yield f"  tokenizer_source: {size.vocabulary}  # they differ; base, union or a model"
    yield ""
    yield "tasks:  # steer the search; best not the test split you will report"
    for task, limit in zip_longest(answers.tasks, size.limits):
        yield f"  - {_task_entry(task, limit)}"
    yield ""
    yield "# validation: []  # tasks the best trials are scored on after the search"
    if answers.holdout:
        yield "holdout:  # looked at once, at the end; never steer"
        yield from (f"  - {_task_entry(task)}" for task in answers.holdout)
    else:
        yield "# holdout: []  # looked at once, at the end: without them the winner looks too good"
    if answers.search_path:
        folders = ", ".join(map(_scalar, answers.search_path))
        yield f"task_search_path: [{folders}]  # folders with task YAML of your own"
    yield ""
    yield "optimizer:"
    yield "  name: auto  # picks by a rule; others: `evomerge list optimizers`"
    yield f"  budget: {answers.budget}  # trials; base, models and their average come on top"
    if answers.seed_from:
        yield f"  seed_from: {_scalar(answers.seed_from)}  # the recipe itself is tried first"
    yield "seed: 0  # same genome, same machine, same run"


def _block(answers: Answers, size: _Size) -> Iterator[str]:
    yield "  models:  # Hub ids, folders, model+lora, model@revision"
    yield from (f"    - {_model(model)}" for model in answers.models)
    if answers.base:
        yield f"  base_model: {_model(answers.base)}  # task vectors are measured from it"
    yield f"  merge_method: {answers.merge_method}  # others: `evomerge list methods`"
    if size.language:
        yield "  modules:  # the parts that are merged; all others stay as they are"
        yield f"    {size.language}: {{}}"
    yield from _granularity(answers, size.n_layers)


def _granularity(answers: Answers, n_layers: int) -> Iterator[str]:
    """How finely values vary: as many groups of layers as the budget can search."""
    if not answers.groups or n_layers < 2:
        yield "  granularity: model  # one set of values; `layers` varies them with depth"
        return
    size = -(-n_layers // answers.groups)
    n_groups = -(-n_layers // size)
    yield "  granularity: layers  # values of their own for each group of layers"
    yield f"  layer_granularity: {size}  # of {n_layers} layers: {n_groups} groups"


def _task_entry(text: str, limit: int | None = None) -> str:
    entry = ", ".join(f"{key}: {_scalar(value)}" for key, value in _entry(text).items() if value)
    entry += f", limit: {limit}" if limit else ""
    return f"{{{entry}}}" + ("  # the first so many documents" if limit else "")


def _model(name: str) -> str:
    """A folder whose own name holds + or @ is written in the long form."""
    if any(mark in name for mark in "+@") and is_folder(name):
        return f"{{model: {{path: {_scalar(name)}}}}}"
    return _scalar(name)


def _scalar(text: Any) -> str:
    """A text or a mapping as YAML, quoted where it has to be, also inside braces."""
    dumped = yaml.safe_dump(
        [text], default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False
    )
    return str(dumped).strip()[1:-1]
