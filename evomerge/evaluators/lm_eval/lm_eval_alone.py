"""A model folder scored by lm-eval alone: its tasks, its evaluation, its Hugging Face model.

What a run found is compared with this; nothing of how a run scores takes part, but for the list
of tasks and documents.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

import lm_eval.api.model
import lm_eval.models.huggingface as huggingface
from lm_eval.api.metrics import mean
from lm_eval.config.group import AggMetricConfig
from lm_eval.defaults import DEFAULT_OTHER_SEED
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from evomerge.evaluators.built_model import Report, Scored
from evomerge.evaluators.lm_eval.hf_model import ReferenceModel, told_as
from evomerge.evaluators.lm_eval.isolation import inside_lm_eval
from evomerge.evaluators.lm_eval.lm_eval_tasks import Leaf, TaskEntry
from evomerge.evaluators.lm_eval.metrics import split_name
from evomerge.evaluators.lm_eval.scoring import per_document
from evomerge.foundations.errors import RunError
from evomerge.foundations.permissions import Permissions
from evomerge.foundations.seeding import stream_seed
from evomerge.genome.task_blocks import EvaluationBlock
from evomerge.inference.shortage import is_shortage
from evomerge.nouns.evaluation import Document


class Reference:
    """The tasks of one split, as lm-eval scores them.

    Args:
        entries: The tasks.
        settings: How the run had lm-eval run the model.
        seed: Root seed of sampled generations.
        permissions: What the user allows tasks.
    """

    def __init__(
        self,
        entries: Sequence[TaskEntry],
        settings: EvaluationBlock,
        seed: int,
        permissions: Permissions,
    ) -> None:
        self._entries = entries
        self._settings = settings
        self._seed = seed
        self._permissions = permissions

    def score(
        self, model: ReferenceModel, report: Report, recorded: Collection[str] = ()
    ) -> Scored:
        """Documents and metrics of a model.

        Args:
            model: What :func:`hf_model.open_model` gave.
            report: Hears how far it is.
            recorded: ``"task/metric,filter"`` of what it is compared with: names that only
                results tell are nowhere else.

        Raises:
            RunError: the model cannot be scored.
        """
        documents: list[Document] = []
        found: dict[str, float] = {}
        for index, entry in enumerate(self._entries):

            def part(share: float, done: int = index) -> None:
                report((done + share) / len(self._entries))

            part(0.0)
            model.answer_for(entry.key.task)
            _name_pooled(entry, recorded)
            results = self._results(model, entry, part)
            for leaf in entry.leaves:
                documents += _documents(leaf, results["samples"][leaf.task.task_name])
            found |= dict(_metrics(entry, results["results"]))
        return tuple(documents), found

    def _results(self, model: ReferenceModel, entry: TaskEntry, report: Report) -> dict[str, Any]:
        """What lm-eval's own evaluation gives; half the batch where memory runs out."""
        while True:
            try:
                with told_as("cannot be scored", entry.key.task), _counted(report):
                    return self._evaluate(model, entry)
            except RunError as error:
                if not is_shortage(error.__cause__ or error) or not model.halve():
                    raise

    def _evaluate(self, model: ReferenceModel, entry: TaskEntry) -> dict[str, Any]:
        leaves = entry.leaves
        for leaf in leaves:
            leaf.task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
        given = entry.group if entry.group is not None else leaves[0].task
        wanted = self._settings.apply_chat_template
        is_chat = bool(wanted) if wanted is not None else bool(model.tokenizer.chat_template)
        multiturn = self._settings.fewshot_as_multiturn
        samples = {leaf.task.task_name: leaf.samples for leaf in leaves if leaf.samples is not None}
        with inside_lm_eval(
            stream_seed(self._seed, "generation"), unsafe_code=self._permissions.unsafe_code
        ):
            results: dict[str, Any] = evaluate(
                lm=model,
                task_dict=TaskManager(include_defaults=False).load([given]),
                limit=leaves[0].limit,
                samples=samples or None,
                bootstrap_iters=0,
                system_instruction=self._settings.system_instruction,
                apply_chat_template=is_chat,
                fewshot_as_multiturn=is_chat if multiturn is None else multiturn,
                confirm_run_unsafe_code=self._permissions.unsafe_code,
            )
        return results


def _name_pooled(entry: TaskEntry, recorded: Collection[str]) -> None:
    """Has a group without a score of its own give what is recorded of it.

    Its tasks' YAML does not name all that they have in common where their code does.
    """
    if entry.group is None or not (entry.is_pooled and entry.is_open):
        return
    prefix = f"{entry.key.task}/"
    pairs = [split_name(key.removeprefix(prefix)) for key in recorded if key.startswith(prefix)]
    entry.group.aggregate_metric_list = [
        AggMetricConfig(metric=metric, filter_list=[name]) for metric, name in pairs
    ]


def _documents(leaf: Leaf, samples: Iterable[Mapping[str, Any]]) -> Iterator[Document]:
    """lm-eval's samples, one for each document and filter, as documents."""
    aggregations = leaf.task.aggregation()
    by_document: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for sample in samples:
        by_document[sample["doc_id"]].append(sample)
    for doc_id, filtered in by_document.items():
        values = {}
        for sample in filtered:
            for metric in sample["metrics"]:
                number = per_document(sample[metric], aggregations.get(metric, mean))
                if number is not None:
                    values[f"{metric},{sample['filter']}"] = number
        document = Document(leaf.name, doc_id, values, _answer(filtered[0]))
        if leaf.language is not None:
            document = leaf.language.marked(document, [*chain(*filtered[0]["resps"])])
        yield document


def _answer(sample: Mapping[str, Any]) -> int | str | None:
    """The option with the highest log-likelihood, or the text after the first filter."""
    responses = [response[0] for response in sample["resps"]]
    if isinstance(responses[0], str):
        text = sample["filtered_resps"][0]
        return str(text[0] if isinstance(text, list) and text else text)
    if len(responses) == 1:
        return None
    # Mutual information asks for each option a second time, without the question.
    is_doubled = "acc_mutual_info" in sample["metrics"]
    likelihoods = [likelihood for likelihood, _ in responses]
    count = len(likelihoods) // 2 if is_doubled else len(likelihoods)
    return max(range(count), key=likelihoods.__getitem__)


def _metrics(
    entry: TaskEntry, results: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, float]]:
    """Every number of an entry's tasks, and of the group they form."""
    names = {leaf.task.task_name: leaf.name for leaf in entry.leaves}
    if entry.group is not None:
        names[entry.group.name] = entry.key.task
    for theirs, ours in names.items():
        for label, value in results.get(theirs, {}).items():
            if "," in label and isinstance(value, (int, float)):
                yield f"{ours}/{label}", float(value)
    for leaf in entry.leaves:
        if leaf.language is not None:
            share = leaf.language.metric(leaf.name)
            yield str(share.key), share.value


@contextmanager
def _counted(report: Report) -> Iterator[None]:
    """Hears what lm-eval's progress bars count; nothing is drawn."""
    bar = huggingface.tqdm
    huggingface.tqdm = lm_eval.api.model.tqdm = partial(_Counter, report)
    try:
        yield
    finally:
        huggingface.tqdm = lm_eval.api.model.tqdm = bar


class _Counter:
    """What lm-eval uses of a progress bar.

    Bars with a total count answers; those over a list count what is tokenised, in no time.
    """

    def __init__(
        self, report: Report, iterable: Iterable[Any] = (), total: int | None = None, **_: Any
    ) -> None:
        self._report = report
        self._items = iterable
        self._total = total
        self._n = 0

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def update(self, n: int = 1) -> None:
        self._n += n
        if self._total:
            self._report(min(self._n / self._total, 1.0))

    def close(self) -> None:
        """Ends it."""
