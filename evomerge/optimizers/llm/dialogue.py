"""One generation's talk with a language model: asked, corrected, waited for, given up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from evomerge.endpoint.chat import ChatAnswer, ChatModel, Message
from evomerge.endpoint.exchange import NoAnswerError
from evomerge.optimizers.llm.reply import Proposal, ReplyError

_FIRST_WAIT = 1.0  # seconds after a request that failed; doubled each time
_LONGEST_REPLY = 2000  # characters of a bad reply that are shown to the model again
_LONGEST_COMPLAINT = 1000  # characters of what is wrong with it


@dataclass(frozen=True)
class Clock:
    """Time as a dialogue sees it, so that a test need not wait.

    Attributes:
        now: Seconds since whenever.
        wait: Lets seconds pass.
    """

    now: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Patience:
    """How long a model is asked.

    Attributes:
        attempts: Requests at most.
        request: Seconds for one of them.
        total: Seconds for all of them and the waits between them.
    """

    attempts: int
    request: float
    total: float


@dataclass
class Attempt:
    """One request and what came of it.

    Attributes:
        correction: What was asked for beside the prompt, empty the first time.
        answer: Empty where none came.
        problem: Why it is no proposal, empty if it is one.
        cause: The same in a word or two.
        was_silent: Whether nobody answered, or not in time, or not as a model does.
        seconds: From request to answer.
        waited: Seconds before the request, after one that failed.
    """

    correction: str = ""
    answer: ChatAnswer = field(default_factory=lambda: ChatAnswer(""))
    problem: str = ""
    cause: str = ""
    was_silent: bool = False
    seconds: float = 0.0
    waited: float = 0.0


@dataclass
class Dialogue:
    """What was said, and what came of it.

    Attributes:
        prompt: The last one.
        attempts: In their order.
        proposal: None where no attempt gave one.
    """

    prompt: list[Message]
    attempts: list[Attempt]
    proposal: Proposal | None = None

    @property
    def was_silent(self) -> bool:
        """Whether nobody was there, however often asked."""
        return all(attempt.was_silent for attempt in self.attempts)


def converse(
    model: ChatModel,
    prompts: Iterator[list[Message]],
    read: Callable[[str], Proposal],
    patience: Patience,
    clock: Clock,
) -> Dialogue:
    """Asks until a reply can be read, or patience ends; never raises for what a model does.

    Args:
        model: Who is asked.
        prompts: The prompt, then ever shorter ones for a model that finds it too long.
        read: A reply -> the proposal; raises ``ReplyError``.
        patience: When to give up.
        clock: Of all waiting.
    """
    end = clock.now() + patience.total
    dialogue = Dialogue(next(prompts), [])
    talk: list[Message] = []
    waiting = 0.0
    while len(dialogue.attempts) < patience.attempts:
        left = end - clock.now() - waiting
        if left <= 0:
            break
        clock.wait(waiting)
        attempt = Attempt(talk[-1]["content"] if talk else "", waited=waiting)
        dialogue.attempts.append(attempt)
        waiting = 0.0
        try:
            seconds = min(patience.request, left)
            _ask(model, [*dialogue.prompt, *talk], seconds, attempt, clock)
            dialogue.proposal = _read(attempt.answer, read)
            break
        except ReplyError as error:
            attempt.problem, attempt.cause = str(error), error.cause
            talk = _correction(attempt)
        except NoAnswerError as error:
            attempt.problem, attempt.was_silent = error.reason, error.status is None
            attempt.cause = error.cause
            shorter = next(prompts, None) if error.is_too_long else None
            if shorter is not None:
                dialogue.prompt, talk = shorter, []
            elif error.may_pass:
                waiting = _wait(error, len(dialogue.attempts))
            else:
                break
    return dialogue


def _ask(
    model: ChatModel, talk: list[Message], seconds: float, attempt: Attempt, clock: Clock
) -> None:
    """One request, with the time it took."""
    began = clock.now()
    try:
        attempt.answer = model.complete(talk, seconds)
    finally:
        attempt.seconds = clock.now() - began


def _wait(error: NoAnswerError, n_attempts: int) -> float:
    """Seconds before the next request: as the server says, else twice as many each time."""
    return _FIRST_WAIT * 2.0 ** (n_attempts - 1) if error.wait is None else error.wait


def _read(answer: ChatAnswer, read: Callable[[str], Proposal]) -> Proposal:
    if answer.problem:
        raise ReplyError(answer.problem, answer.cause or answer.problem)
    return read(answer.text)


def _correction(attempt: Attempt) -> list[Message]:
    """The bad reply and what is wrong with it, in place of any earlier ones."""
    said = attempt.answer.text[:_LONGEST_REPLY] or "(nothing)"
    problem = attempt.problem[:_LONGEST_COMPLAINT]
    asked = f"This cannot be used: {problem}. Reply with the JSON object alone."
    return [{"role": "assistant", "content": said}, {"role": "user", "content": asked}]


def shortening(make: Callable[[int], list[Message]], n_examples: int) -> Iterator[list[Message]]:
    """The prompt of ever fewer examples, down to one."""
    while n_examples >= 1:
        yield make(n_examples)
        n_examples //= 2


def tokens(attempts: Sequence[Attempt]) -> tuple[int, int]:
    """Tokens of all prompts and of all replies."""
    answers = [attempt.answer for attempt in attempts]
    return sum(a.prompt_tokens for a in answers), sum(a.completion_tokens for a in answers)
