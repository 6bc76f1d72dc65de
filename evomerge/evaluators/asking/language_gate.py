"""A gate around any kind that has texts written: a reply counts only in the wanted language.

Languages are told by py3langid (extra ``language``), a naive Bayes classifier over 100 languages.
Source: Lui and Baldwin, langid.py (2012), and its kept-up fork.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from evomerge.evaluators.asking.asking_kind import Asking, AskingTogether, Judgement
from evomerge.evaluators.kind_of_task import Measure
from evomerge.foundations.errors import Problem, nearest
from evomerge.inference.base import Written

PACKAGE = "py3langid"
IN_LANGUAGE = Measure("in_language", True, 0.0, 1.0, "share of replies in the wanted language")
_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True)
class LanguageGate:
    """What a reply has to be in.

    Attributes:
        languages: ISO 639 codes, any of which will do.
    """

    languages: tuple[str, ...]

    @property
    def stands_on(self) -> list[Any]:
        """What it decides by."""
        return [PACKAGE, version(PACKAGE), sorted(self.languages)]

    def problems(self, read: Measure) -> Iterator[Problem]:
        """What keeps it from being used.

        Args:
            read: The measure that the genome reads.
        """
        if find_spec(PACKAGE) is None:
            what = "language needs a package that is not installed"
            yield Problem(what, "language", "Run `pip install 'evomerge[language]'`.")
            return
        known = _languages()
        for name in self.languages:
            if name not in known:
                what = (
                    f"got {name!r}, expected a code of ISO 639 such as 'ja'{nearest(name, known)}"
                )
                yield Problem(what, "language")
        if not math.isfinite(read.worst):
            yield Problem(
                f"a reply in another language gets the worst {read.name} there is, which has no "
                "such end",
                "language",
                "Name a metric with a range, or leave language out.",
            )

    def passed(
        self, asking: Asking | AskingTogether, measures: Sequence[Measure]
    ) -> AskingTogether:
        """The judging of documents, of which nothing counts where a text is in another language.

        Args:
            asking: The judging.
            measures: What it gives.
        """
        answer: Any = None
        others: dict[str, None] = {}
        try:
            while True:
                answer = yield asking.send(answer)
                others |= dict.fromkeys(self._others(answer))
        except StopIteration as over:
            found = over.value
        finally:
            asking.close()
        own = (found,) if isinstance(found, Judgement) else found
        return [self._counted(one, others, measures) for one in own]

    def _counted(
        self, judgement: Judgement, others: Collection[str], measures: Sequence[Measure]
    ) -> Judgement:
        """What counts of a document, where texts are in other languages."""
        values = {**judgement.values, IN_LANGUAGE.name: float(not others)}
        if not others:
            return replace(judgement, values=values)
        worst = {one.name: one.worst for one in measures if math.isfinite(one.worst)}
        note = f" (in {', '.join(others)}, expected {' or '.join(self.languages)})"
        shown = judgement.shown
        return replace(
            judgement,
            values={name: worst.get(name, value) for name, value in values.items()},
            answer=judgement.answer if judgement.answer is None else f"{judgement.answer}{note}",
            shown=None if shown is None else replace(shown, answer=f"{shown.answer}{note}"),
        )

    def _others(self, answer: Any) -> Iterator[str]:
        """The other languages among the texts of an answer; one without a word is in any."""
        texts = answer if isinstance(answer, list) else [answer]
        for text in texts:
            if isinstance(text, Written) and _WORD.search(text):
                found = language_of(text)
                if found not in self.languages:
                    yield found


def language_of(text: str) -> str:
    """The code of the language that a text is in."""
    import py3langid  # type: ignore[import-untyped]  # it has no types; late: an extra, and heavy

    return str(py3langid.classify(str(text))[0])


@cache
def _languages() -> Sequence[str]:
    """The codes that it tells apart."""
    import py3langid  # as above

    return sorted({str(code) for code, _ in py3langid.rank("a")})
