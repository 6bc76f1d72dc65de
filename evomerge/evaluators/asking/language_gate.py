"""A gate around any kind that has texts written: a reply counts only in the wanted language.

Languages are told by py3langid (extra ``language``), a naive Bayes classifier over 140 languages.
Of a word or two it knows nothing, so that a reply is in another language only where that one is
much likelier than every wanted one. Formulas, code, numbers and their units are in none.

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

from evomerge.evaluators.asking.asked import Asked, AskOther, AskText
from evomerge.evaluators.asking.asking_kind import (
    Asking,
    AskingTogether,
    Judgement,
    NotAskedError,
    Shown,
)
from evomerge.evaluators.kind_of_task import Measure
from evomerge.foundations.errors import Problem, nearest

PACKAGE = "py3langid"
IN_LANGUAGE = Measure("in_language", True, 0.0, 1.0, "share of replies in the wanted language")
_WORD = re.compile(r"[^\W\d_]{2,}")
_IN_NONE = re.compile(
    r"```.*?(?:```|\Z)"  # code
    r"|\$\$.*?\$\$|\\\[.*?\\\]|\\\(.*?\\\)"  # formulas
    r"|\$(?![\s$])[^$\n]*(?<!\s)\$(?!\d)"  # the same within a line, and no prices
    r"|\\[a-zA-Z]+(?:\{[^{}]*\})*"  # what stands of LaTeX without a formula around it
    r"|\d[\d.,/:^]*\s?(?:[a-zA-Z\u00b5\u00b0%]{1,3}\b)?",  # numbers, with units
    re.DOTALL,
)
# Nats between two languages. Names, single words and two or three of them are below; a sentence
# of four words in a language that is not near the wanted one is above.
_SURE = 25.0
_BOTH = frozenset({"ja", "zh"})
_SHORT = 20  # ideographs that may be a name or a term of either


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
        return [PACKAGE, version(PACKAGE), _SURE, sorted(self.languages)]

    def unknown(self) -> Iterator[Problem]:
        """What keeps languages from being told; ``where`` is the key that names them."""
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

    def problems(self, read: Measure) -> Iterator[Problem]:
        """What keeps it from being used.

        Args:
            read: The measure that the genome reads.
        """
        unknown = list(self.unknown())
        yield from unknown
        if not unknown and not math.isfinite(read.worst):
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

        Nobody else is asked about such a text any more; what was found before stays.

        Args:
            asking: The judging; of one document, where it asks somebody else.
            measures: What it gives.
        """
        answer: Any = None
        others: dict[str, None] = {}
        told = Shown("", "")
        try:
            while True:
                asked = asking.send(answer)
                if others and any(isinstance(one, AskOther) for one in _several(asked)):
                    # Whom it would ask may cost something.
                    return [self._marked(_so_far(asking, told, measures), others)]
                answer = yield asked
                others |= dict.fromkeys(self._others(asked, answer))
                told = _last_text(asked, answer) or told
        except StopIteration as over:
            found = over.value
        finally:
            asking.close()
        own = (found,) if isinstance(found, Judgement) else found
        worst = _worst(measures) if others else {}
        return [
            self._marked(
                replace(one, values={name: worst.get(name, v) for name, v in one.values.items()}),
                others,
            )
            for one in own
        ]

    def other(self, text: str) -> str | None:
        """The other language that a text is in; None where it counts."""
        return other_language(text, self.languages)

    def note(self, others: Collection[str]) -> str:
        """What is told behind an answer; nothing where it counts.

        Args:
            others: The other languages that it is in.
        """
        expected = " or ".join(self.languages)
        return f" (in {', '.join(others)}, expected {expected})" if others else ""

    def _marked(self, judgement: Judgement, others: Collection[str]) -> Judgement:
        """A judgement that says whether its texts were in the language, and which others not."""
        note, answer, shown = self.note(others), judgement.answer, judgement.shown
        return replace(
            judgement,
            values={**judgement.values, IN_LANGUAGE.name: float(not others)},
            answer=f"{answer}{note}" if note and answer is not None else answer,
            shown=None if shown is None else replace(shown, answer=f"{shown.answer}{note}"),
        )

    def _others(self, asked: Asked | Sequence[Asked], answer: Any) -> Iterator[str]:
        """The other languages among the texts that answer a document."""
        for one, text in _pairs(asked, answer):
            if isinstance(one, AskText) and one.is_answer:
                found = self.other(text)
                if found is not None:
                    yield found


def _several(asked: Asked | Sequence[Asked]) -> Sequence[Asked]:
    return asked if isinstance(asked, Sequence) else (asked,)


def _pairs(asked: Asked | Sequence[Asked], answer: Any) -> Iterator[tuple[Asked, Any]]:
    """Each request with its answer."""
    answers = answer if isinstance(asked, Sequence) else (answer,)
    return zip(_several(asked), answers, strict=True)


def _last_text(asked: Asked | Sequence[Asked], answer: Any) -> Shown | None:
    """What was written last, and what for; None where nothing was."""
    for one, text in reversed([*_pairs(asked, answer)]):
        if isinstance(one, AskText):
            prompt = one.prompt[-1].content if isinstance(one.prompt, tuple) else str(one.prompt)
            return Shown(prompt, str(text).strip())
    return None


def _so_far(asking: Asking | AskingTogether, told: Shown, measures: Sequence[Measure]) -> Judgement:
    """What there is of a document about which nobody is asked any more.

    The worst of all that has a worst, but for what its kind found before.
    """
    try:
        asking.throw(NotAskedError())
    except NotAskedError:
        return Judgement(_worst(measures), told.answer, told)
    except StopIteration as over:
        had: Judgement = over.value
        return replace(had, values={**_worst(measures), **had.values}, lacks="")
    raise RuntimeError("a kind goes on asking about a text that counts for nothing")


def _worst(measures: Sequence[Measure]) -> dict[str, float]:
    """The worst of all measures that have one."""
    return {one.name: one.worst for one in measures if math.isfinite(one.worst)}


def other_language(text: str, wanted: Collection[str]) -> str | None:
    """The code of the language that a text is in, where that is surely none of the wanted.

    Args:
        text: What was written.
        wanted: Codes of languages.
    """
    import py3langid  # type: ignore[import-untyped]  # it has no types; late: an extra, and heavy

    words = _IN_NONE.sub(" ", text)
    if not _WORD.search(words) or (not _BOTH.isdisjoint(wanted) and _is_in_both(words)):
        return None
    ranks = {str(code): float(score) for code, score in py3langid.rank(words)}
    likeliest = max(ranks, key=ranks.__getitem__)
    behind = ranks[likeliest] - max(ranks[code] for code in wanted)
    return likeliest if behind >= _SURE else None


def _is_in_both(text: str) -> bool:
    """Whether a text may be Japanese as well as Chinese: few ideographs, all in use in Japan."""
    letters = "".join(filter(str.isalpha, text))
    if len(letters) > _SHORT or not all("\u3400" <= one <= "\u9fff" for one in letters):
        return False
    try:
        letters.encode("shift_jis")
    except UnicodeEncodeError:
        return False
    return True


@cache
def _languages() -> Sequence[str]:
    """The codes that it tells apart."""
    import py3langid  # as above

    return sorted({str(code) for code, _ in py3langid.rank("a")})
