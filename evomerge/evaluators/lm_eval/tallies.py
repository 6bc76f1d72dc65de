"""Signs that a task cannot tell models apart: answers cut or empty, and what guessing scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from lm_eval.api.task import ConfigurableTask

from evomerge.evaluators.lm_eval.generation import CutText, Written
from evomerge.evaluators.lm_eval.requests import Responses
from evomerge.evaluators.lm_eval.tasks import Entry
from evomerge.trial import Tally

SHARES_OF_RIGHT = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info")


def tallies_of(entries: Sequence[Entry], responses: Responses) -> tuple[Tally, ...]:
    """One per entry of the genome's tasks, in their order."""
    return tuple(_tally(entry, responses) for entry in entries)


def plain(responses: Responses) -> Responses:
    """The responses as the tasks' own code may have them: their texts are texts and no more."""
    return {
        task: [str(one) if isinstance(one, Written) else one for one in given]
        for task, given in responses.items()
    }


def _tally(entry: Entry, responses: Responses) -> Tally:
    given = chain.from_iterable(responses[leaf.task] for leaf in entry.leaves)
    texts = [response for response in given if isinstance(response, str)]
    return Tally(
        entry.key.task,
        len(texts),
        sum(isinstance(text, CutText) for text in texts),
        sum(not text.strip() for text in texts),
        _guess(entry),
    )


def _guess(entry: Entry) -> float | None:
    """What an option drawn at random would score, over all documents."""
    tasks = [leaf.task for leaf in entry.leaves]
    if entry.key.metric not in SHARES_OF_RIGHT or not all(map(_has_one_right_option, tasks)):
        return None
    chances = [1 / n_options for task in tasks for n_options in _options(task)]
    return sum(chances) / len(chances) if chances else None


def _has_one_right_option(task: Any) -> bool:
    return (
        isinstance(task, ConfigurableTask)
        and task.OUTPUT_TYPE == "multiple_choice"
        and task.config.process_results is None
        and not task.multiple_target
    )


def _options(task: Any) -> Iterator[int]:
    """Options of each document; mutual information asks for each a second time."""
    times = 2 if "acc_mutual_info" in task.aggregation() else 1
    asked = Counter(instance.doc_id for instance in task.instances)
    return (n_requests // times for n_requests in asked.values())
