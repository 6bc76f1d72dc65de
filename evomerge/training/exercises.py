"""What the documents of the search tasks teach, as the search goes on.

Of a text that is written it is the best answer so far, where that is right; else the task's
target, in the form that the parents find likeliest; else the best answer where others were worse.
What is chosen is compared with the other options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from transformers import PreTrainedModel

from evomerge.evaluators.questions import Answer, Question
from evomerge.foundations.counted import counted
from evomerge.foundations.errors import GenomeError, LedgerError
from evomerge.nouns.evaluation import Document
from evomerge.nouns.parents import is_parent
from evomerge.nouns.trial import Trial
from evomerge.recipe.plain import Recipe
from evomerge.training.best_answers import BestAnswers
from evomerge.training.passes import Exercise, OptionTexts, TaughtTokens, Text
from evomerge.training.right_targets import RightTargets
from evomerge.training.target_forms import N_LOOKED_AT, Opinion, is_foreign, likeliest, opinion_of


@dataclass(frozen=True)
class History:
    """What a search has seen by now.

    Attributes:
        trials: Those that are over, oldest first, the baselines before all others.
        documents: Per-document results of a trial, by its number.
    """

    trials: Callable[[], Sequence[Trial]]
    documents: Callable[[int], Sequence[Document]]


class Exercises:
    """Made anew for every epoch from the trials that are over by then.

    Args:
        questions: Of all tasks.
        shares: Task -> what it counts; those that count nothing are left out.
        history: Of the search.
        model_of: A recipe's model; overwrites the one before.
        warn: Tells people of targets that no parent would write.
        tell: Tells people of tasks that teach nothing.
        batch_size: Texts of a pass.
        rights: Knows which targets are right.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        shares: Mapping[str, float],
        history: History,
        model_of: Callable[[Recipe], PreTrainedModel],
        warn: Callable[[str], None],
        tell: Callable[[str], None],
        batch_size: int,
        rights: RightTargets,
    ) -> None:
        self._questions = [one for one in questions if shares.get(one.task, 1.0) > 0]
        self._shares = shares
        self._history = history
        self._model_of = model_of
        self._warn, self._tell = warn, tell
        self._batch_size = batch_size
        self._best = BestAnswers(self._questions)
        single = (one for one in self._questions if one.prompt is not None and not one.is_repeated)
        self._written = {one.document for one in single}
        self._rights = rights
        self._learned: dict[tuple[str, int], Text] = {}  # targets
        self._forms: dict[str, int] = {}  # task of the documents -> form of its targets
        self._n_seen = 0

    def targets(self, name: str) -> list[Text]:
        """The documents of a task with the answers that the task itself says are right."""
        found = []
        for one in (question for question in self._questions if question.task == name):
            if one.answers:
                found.append(_text(one.answers[one.right[0]], 1.0))
            elif one.target is not None and self._rights.holds(one):
                found.append(_text(one.target.form(0), 1.0))
        self._rights.keep()
        return found

    def now(self) -> dict[str, list[Exercise]]:
        """Task -> what its documents teach.

        Raises:
            GenomeError: nothing.
            LostFileError, LedgerError: documents of a trial are not as they were recorded.
        """
        is_first = not self._n_seen
        self._look()
        found: dict[str, list[Exercise]] = {}
        for question in self._questions:
            exercise = self._exercise(question)
            if exercise is not None:
                found.setdefault(question.task, []).append(exercise)
        self._rights.keep()
        silent = [name for name, share in self._shares.items() if share > 0 and name not in found]
        if is_first and found and silent:
            self._tell(
                f"{', '.join(silent)}: no document teaches (no option, target or answer is known "
                "to be right); gradient learns from the other tasks alone until an answer is right"
            )
        if not found:
            raise GenomeError(
                "no right answer can be read off the search tasks, and no model gave one",
                where="optimizer.losses.nll",
                fix="Set it to 0 and let the sources teach (kl, with prompts), or use cma_es.",
            )
        return found

    def _exercise(self, question: Question) -> Exercise | None:
        share = self._shares.get(question.task, 1.0)
        if (taught := question.taught) is not None:
            said = taught.said(taught.tokens)
            return TaughtTokens.of(taught.tokens, said, taught.temperature, share)
        if question.prompt is None:
            if len(question.answers) == 1:
                return _text(question.answers[0], share)
            return OptionTexts(
                tuple(_text(one, share) for one in question.answers),
                question.right,
                question.lengths,
                tuple(_text(one, share) for one in question.against),
                share,
            )
        tokens = self._best.right(question)
        if tokens is None and question.target is not None and self._rights.holds(question):
            if question.document not in self._learned:  # the form is the same in every epoch
                form = question.target.form(self._forms.get(question.document[0], 0))
                self._learned[question.document] = _text(form, share)
            return self._learned[question.document]
        tokens = tokens or self._best.better(question)
        return None if tokens is None else _text(Answer(question.prompt, tokens), share)

    def _look(self) -> None:
        """Takes in what was answered since the last time."""
        trials = self._history.trials()
        new = trials[self._n_seen :]
        if not self._n_seen:
            baselines = [trial for trial in trials if trial.candidate.is_baseline]
            for trial in baselines:
                self._best.see(self._documents(trial), is_baseline=True)
            # By these alone: a run that is continued finds the same form.
            self._find_forms([trial for trial in baselines if is_parent(trial)])
            new = [trial for trial in trials if not trial.candidate.is_baseline]
        for trial in new:
            self._best.see(self._documents(trial), is_baseline=False)
        self._n_seen = len(trials)

    def _documents(self, trial: Trial) -> Sequence[Document]:
        """Those of a trial; without all that was recorded, other things would be learned.

        Raises:
            LedgerError: they were recorded without the tokens of what was written.
        """
        if trial.outcome.evaluation is None:
            return ()
        documents = self._history.documents(trial.candidate.trial_id)
        for one in documents:
            if one.written is None and (one.task, one.doc_id) in self._written:
                raise LedgerError(
                    f"document {one.doc_id} of {one.task} was recorded without the tokens of its "
                    "answer, which are learned from",
                    where=f"trial {trial.candidate.trial_id}",
                    fix="Begin a new run folder; --fork NEW_RUN takes over what holds.",
                )
        return documents

    def _find_forms(self, parents: Sequence[Trial]) -> None:
        """The form of the targets of every task that teaches some of them."""
        wanted: dict[str, list[Question]] = {}
        for question in self._questions:
            name = question.document[0]
            if question.target is None or name in wanted or self._best.right(question) is not None:
                continue
            if self._rights.holds(question):
                wanted[name] = self._looked_at(name)
        opinions: dict[str, list[Opinion]] = {name: [] for name in wanted}
        scored = [parent for parent in parents if parent.outcome.evaluation is not None]
        for parent in scored if wanted else ():
            module = self._model_of(parent.candidate.recipe)
            own = self._best.of(self._documents(parent))
            for name, questions in wanted.items():
                answers = [own.right(one) for one in questions]
                opinions[name].append(opinion_of(module, questions, answers, self._batch_size))
        for name, found in opinions.items():
            if found:
                self._forms[name] = likeliest(found)
                if is_foreign(found, self._forms[name]):
                    self._say_foreign(name, wanted[name])

    def _looked_at(self, name: str) -> list[Question]:
        """A few documents of a task, those that were answered right before others."""
        own = [one for one in self._questions if one.document[0] == name]
        ordered = sorted(own, key=lambda one: self._best.right(one) is None)
        return [*islice(filter(self._rights.holds, ordered), N_LOOKED_AT)]

    def _say_foreign(self, name: str, questions: Sequence[Question]) -> None:
        n_without = sum(
            self._best.right(one) is None for one in self._questions if one.document[0] == name
        )
        self._warn(
            f"{name}: every model finds its own right answers far likelier than the task's "
            f"targets, which are learned for {counted(n_without, 'document')} that nobody answered "
            "right. "
            "Write the targets (doc_to_target) as the models answer."
        )


def _text(answer: Answer, share: float) -> Text:
    return Text((*answer.context, *answer.tokens), len(answer.context), share)
