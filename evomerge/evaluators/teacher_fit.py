"""Whether a teacher reads texts as the models do that are compared with it."""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.evaluators.asking.prompt_reader import PromptReader
from evomerge.evaluators.side_model import SideModel
from evomerge.foundations.errors import EvomergeError, Problem
from evomerge.genome.task_blocks import EvaluationBlock
from evomerge.inference.base import LENGTHS

_SHOWN = 40  # characters of a text


def unlike(text: str, tokens: Sequence[int], teacher: PromptReader, longest: int) -> Problem | None:
    """What keeps a teacher from being compared on a text; None where nothing does.

    Args:
        text: As it stands.
        tokens: As the model that is scored reads its beginning.
        teacher: Reads as the teacher does.
        longest: Tokens that the teacher reads at most.
    """
    own = teacher.context(text, is_plain=True)[: len(tokens)]
    if own != list(tokens):
        return Problem(
            f"reads {text[:_SHOWN]!r} as other tokens than the model that is scored, and what they "
            "say cannot be compared",
            fix="Name a teacher with the tokenizer of the merge.",
        )
    if len(own) > longest:
        what = f"reads {longest} tokens at most, and a text has {len(own)} that are read"
        return Problem(what, fix="Lower max_tokens.")
    return None


def mismatch(
    place: SideModel, texts: Sequence[str], reader: PromptReader, most: int
) -> Problem | None:
    """The same of some texts, by the teacher's small files; None where these cannot be read yet.

    Args:
        place: The teacher.
        texts: That it is asked about.
        reader: Reads as the models that are scored do.
        most: Tokens of a text that are read.
    """
    facts = place.facts
    if isinstance(facts, EvomergeError) or facts.is_on_hub:
        return None
    teacher = PromptReader(place.tokenizer(), EvaluationBlock())
    lengths = [facts.text_config.get(name) for name in LENGTHS]
    longest = next((one for one in lengths if isinstance(one, int)), most)
    for text in texts:
        tokens = reader.context(text, is_plain=True)[:most]
        problem = unlike(text, tokens, teacher, longest)
        if problem is not None:
            return problem
    return None
