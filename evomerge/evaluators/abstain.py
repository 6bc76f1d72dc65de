"""Asks questions with options, then whether the answer is true: effective reliability.

Who doubts an own answer abstains, and that is better than to be wrong. Rows as of ``choice``.

Source: Feng et al., Model Swarms (2024), arXiv:2410.11163, AbstainQA; the metric of Feng et al.,
Don't Hallucinate, Abstain (2024), arXiv:2402.00367.
Differs: replies are read strictly unless ``match: loose`` says otherwise, the check as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from evomerge.evaluators.asking.asked import AskText
from evomerge.evaluators.asking.asking_kind import (
    Asking,
    Item,
    Judgement,
    Lesson,
    RightOption,
    Shown,
)
from evomerge.evaluators.choice import ChoiceQuestion, ChoiceQuestions, ChoiceSettings
from evomerge.evaluators.kind_of_task import Measure
from evomerge.evaluators.reply_reading import final_part

_CHECK = (
    "\nProposed answer: {answer}\n"
    "Is the proposed answer true or false? Directly answer with true or false."
)
_VERDICT = re.compile(r"\b(true|false)\b", re.IGNORECASE)


class AbstainSettings(ChoiceSettings):
    """What stands under ``abstain:``."""


class Abstaining(ChoiceQuestions):
    """``abstain: {file: mmlu.json}``: right less wrong answers among those it stands by."""

    Settings = AbstainSettings
    measures = (
        Measure(
            *("effective_reliability", True, -1.0, 1.0),
            "share of right less share of wrong answers, abstentions counting for neither",
        ),
        Measure("abstained", False, 0.0, 1.0, "share of answers it does not stand by"),
        Measure("acc", True, 0.0, 1.0, "share of right options, abstentions or not"),
    )
    rounds = 2

    def judge(self, item: Item[ChoiceQuestion]) -> Asking:
        """See :meth:`AskingKind.judge`."""
        question = item.content
        reply = yield self._asked(item)
        check = question.prompt + _CHECK.format(answer=str(reply).strip())
        doubt = yield AskText(check, self.max_new_tokens, is_answer=False)
        chosen, abstains = self.read(reply, question), self._abstains(doubt)
        is_right = chosen == question.answer
        worth = 0.0 if abstains else 1.0 if is_right else -1.0
        values = {
            "effective_reliability": worth,
            "abstained": float(abstains),
            "acc": float(is_right),
        }
        said = f"{str(reply).strip()} (true or false? {str(doubt).strip()})"
        return Judgement(
            values,
            "(abstains)" if abstains else chosen or str(reply).strip(),
            Shown(question.prompt, said, question.answer),
        )

    def lesson(self, item: Item[ChoiceQuestion]) -> Lesson:
        """See :meth:`AskingKind.lesson`: the right option; whom to doubt, nobody knows."""
        options = tuple(item.content.options)
        return RightOption(self._asked(item), options, options.index(item.content.answer))

    def guess(self, items: Sequence[Item[ChoiceQuestion]]) -> float | None:
        """Nobody knows how often whoever guesses would abstain."""
        return None

    def _abstains(self, doubt: str) -> bool:
        """Whether the first verdict is false; read loosely, whether the word stands anywhere."""
        if self.settings.match == "loose":
            return "false" in doubt.lower()
        found = _VERDICT.search(final_part(doubt))
        return found is not None and found[1].lower() == "false"
