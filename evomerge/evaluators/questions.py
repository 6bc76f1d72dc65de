"""What tasks ask, in tokens, and what would be right: the texts that a model can learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Tokens = tuple[int, ...]
PERFECT = {True: 1.0, False: 0.0}  # higher is better: a share of right ones; lower: an error


@dataclass(frozen=True)
class Answer:
    """What a model reads, and what it may go on with."""

    context: Tokens
    tokens: Tokens


@dataclass(frozen=True)
class Target:
    """The target of one document.

    Attributes:
        n_forms: Delimiters times stops; the task's own come first.
        form: Makes the tokens of one.
        is_right: Asks the task whether it would give it full marks, were it an answer.
        is_judged: Whether the task's own code is asked, and no metric of lm-eval's.
    """

    n_forms: int
    form: Callable[[int], Answer]
    is_right: Callable[[], bool]
    is_judged: bool = False


@dataclass(frozen=True)
class Question:
    """One document of a task.

    Attributes:
        task: As the genome names it.
        document: Name and index that its results go by.
        metric: ``"metric,filter"`` that its results are judged by.
        higher_is_better: Direction of that metric.
        answers: The options, or the one text that is scored; none of a text that is written.
        right: Which of the options are right.
        lengths: What lm-eval divides the log-likelihood of each option by.
        against: What it takes the log-likelihood of away, one per option; often empty.
        prompt: What a text is written after; None where none is.
        max_tokens: At which a text that is written is cut; None where none is.
        is_repeated: Whether several texts are written, of which a value is no one's alone.
        target: What the task says is right of a text that is written; None where it says nothing.
    """

    task: str
    document: tuple[str, int]
    metric: str
    higher_is_better: bool
    answers: tuple[Answer, ...] = ()
    right: tuple[int, ...] = (0,)
    lengths: tuple[float, ...] = (1.0,)
    against: tuple[Answer, ...] = ()
    prompt: Tokens | None = None
    max_tokens: int | None = None
    is_repeated: bool = False
    target: Target | None = None
