"""What files show before anything is merged: the table of rules.

A rule is a function from a :class:`Subject` to findings; it looks only at the parts that are
there. One line here adds one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from evomerge.findings import Finding
from evomerge.preflight.fit import tokenizer_and_texts
from evomerge.preflight.subject import Subject

Rule = Callable[[Subject], Iterator[Finding]]

# Rules of models alone; the merge space is built only if they find no error.
MODEL_RULES: tuple[Rule, ...] = ()
# Rules of everything together.
RULES: tuple[Rule, ...] = (tokenizer_and_texts,)
