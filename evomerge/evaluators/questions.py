"""What tasks ask, in tokens, and what would be right: the texts that a model can learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Tokens = tuple[int, ...]
DELIMITERS = ("", " ", "\n")  # what models write before an answer, whatever a task says
PERFECT = {True: 1.0, False: 0.0}  # higher is better: a share of right ones; lower: an error


@dataclass(frozen=True)
class Answer:
    """What a model reads, and what it may go on with."""

    context: Tokens
    tokens: Tokens

    def cut(self, max_length: int) -> Answer:
        """As much of its end as a model reads."""
        kept = self.tokens[:max_length]
        room = max(max_length + 1 - len(kept), 1)
        return Answer(self.context[-room:], kept)


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
class Taught:
    """A text whose continuations a teacher knows, at every place.

    Attributes:
        tokens: Of the text, as the model that learns reads it.
        temperature: What the logits of both are divided by.
        said: The teacher's best logits behind each of these tokens, (tokens, k), and which they
            are of.
    """

    tokens: Tokens
    temperature: float
    said: Callable[[Tokens], tuple[torch.Tensor, torch.Tensor]]


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
        taught: What a teacher says of a text; there is nothing else then.
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
    taught: Taught | None = None
