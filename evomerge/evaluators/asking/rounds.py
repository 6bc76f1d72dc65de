"""Many documents judged at once: what their generators ask is answered together, round by round."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from evomerge.evaluators.asking.asked import Asked, AskOther, Outsider
from evomerge.evaluators.asking.asking_kind import Asking, AskingTogether, Judgement
from evomerge.evaluators.asking.respondent import Respondent
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import EvaluationError, EvomergeError, told
from evomerge.inference.base import Written

_LOOKS_EVERY = 0.05  # seconds


@dataclass
class Hearing:
    """A document that is being judged, or several that are judged together.

    Attributes:
        task: Of which they are, for messages.
        numbers: Of the documents.
        asking: Its generator.
        judgements: What came of each, once it is over.
        texts: What the model wrote for them.
    """

    task: str
    numbers: tuple[int, ...]
    asking: Asking | AskingTogether
    judgements: Sequence[Judgement] | None = None
    texts: list[Written] = field(default_factory=list)
    _requests: tuple[Asked, ...] = ()
    _is_several: bool | None = None  # None: it has not begun

    def go_on(self, known: dict[Asked, Any]) -> tuple[Asked, ...]:
        """Hears the answers to what it asked last; what it asks next, nothing once it is over.

        Raises:
            EvaluationError: the kind's own code failed on it.
        """
        heard = [known[one] for one in self._requests]
        self.texts += (one for one in heard if isinstance(one, Written))
        answer: Any = heard if self._is_several else next(iter(heard), None)
        try:
            asked = self.asking.send(answer)
        except StopIteration as over:
            found, self._requests = over.value, ()
            self.judgements = (found,) if isinstance(found, Judgement) else found
        except EvomergeError:
            raise
        except (
            Exception
        ) as error:  # whatever code judges: a stranger's, or a reply it did not foresee
            of = f"document {self.numbers[0]} of " if self.numbers else ""
            what = f"{of}{self.task!r} cannot be judged: {told(error)}"
            raise EvaluationError(what) from error
        else:
            self._is_several = isinstance(asked, Sequence)
            self._requests = tuple(asked) if isinstance(asked, Sequence) else (asked,)
        return self._requests


def hear(hearings: Sequence[Hearing], respondent: Respondent, deadline: Deadline) -> None:
    """Has every document judged: what all of them ask is answered, equal requests once.

    Args:
        hearings: Not yet begun; they hold their judgements afterwards.
        respondent: Answers for the model.
        deadline: For those who answer beside it.

    Raises:
        TrialTimeoutError: the deadline is over.
        EvaluationError: the model, or somebody else, has no answer.
    """
    known: dict[Asked, Any] = {}
    open_ones, turn = list(hearings), 0
    try:
        while open_ones:
            asked = dict.fromkeys(one for each in open_ones for one in each.go_on(known))
            _answer([one for one in asked if one not in known], known, respondent, deadline, turn)
            open_ones, turn = [one for one in open_ones if one.judgements is None], turn + 1
    finally:  # what a generator holds ends with the trial, whichever way that ends
        for one in open_ones:
            one.asking.close()


def _answer(
    asked: Sequence[Asked],
    known: dict[Asked, Any],
    respondent: Respondent,
    deadline: Deadline,
    turn: int,
) -> None:
    """Those who wait are asked first, and answer while the model does."""
    others: dict[Outsider, list[AskOther]] = {}
    for one in asked:
        if isinstance(one, AskOther):
            others.setdefault(one.whom, []).append(one)
    with ExitStack() as stack:
        answering: list[tuple[list[AskOther], Future[Sequence[Any]]]] = []
        for whom, own in others.items():
            if whom.waits:
                pool = stack.enter_context(ThreadPoolExecutor(1))
                future = pool.submit(_asked_of, whom, own, deadline)
                stack.enter_context(_given_up(whom, future))
                answering.append((own, future))
        of_model = [one for one in asked if not isinstance(one, AskOther)]
        known |= zip(of_model, respondent.answers(of_model, turn) if of_model else (), strict=True)
        for whom, own in others.items():
            if not whom.waits:
                known |= zip(own, _asked_of(whom, own, deadline), strict=True)
        for own, future in answering:
            known |= zip(own, future.result(), strict=True)


@contextmanager
def _given_up(whom: Outsider, answering: Future[Any]) -> Iterator[None]:
    """Nobody is waited for where what happens meanwhile ends it all, as an interrupt does."""
    try:
        yield
    except BaseException:
        answering.cancel()
        while not answering.done():  # it may not have begun yet with what can be given up
            whom.give_up()
            wait([answering], _LOOKS_EVERY)
        raise


def _asked_of(whom: Outsider, asked: Iterable[AskOther], deadline: Deadline) -> Sequence[Any]:
    return whom.answers([one.content for one in asked], deadline)
