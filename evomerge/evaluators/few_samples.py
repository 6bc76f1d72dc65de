"""A few answers of each task for people to read: how many, and how much of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice, zip_longest

from evomerge.nouns.evaluation import Sample

N_SAMPLES = 3  # of all tasks together, or one of each where there are more
LONGEST = 240  # characters of a prompt's end, of an answer and of a target


def first_samples(of_tasks: Sequence[Iterator[Sample]]) -> tuple[Sample, ...]:
    """The first answers, one task after the other.

    Args:
        of_tasks: The samples of each task.
    """
    rounds = chain.from_iterable(zip_longest(*of_tasks))
    return tuple(islice((one for one in rounds if one), max(N_SAMPLES, len(of_tasks))))


def sample_of(task: str, number: int, prompt: str, answer: str, target: str) -> Sample:
    """One answer, its texts as long as people are shown.

    Args:
        task: Name.
        number: Of the document.
        prompt: Its end is shown.
        answer: Its beginning is shown.
        target: Likewise.
    """
    return Sample(task, number, _end(prompt), _start(answer), _start(target))


def _start(text: str) -> str:
    """As much of a text as people are shown, with the number of characters that follow."""
    left = len(text) - LONGEST
    return text if left <= 0 else f"{text[:LONGEST]} (… {left} characters)"


def _end(text: str) -> str:
    """The same of a text whose end matters, with the number of characters before."""
    left = len(text) - LONGEST
    return text if left <= 0 else f"({left} characters …) {text[-LONGEST:]}"
