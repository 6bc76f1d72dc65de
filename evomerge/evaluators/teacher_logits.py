"""What a model says of texts at every place: its best logits, asked for once and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from evomerge.evaluators import KEEPS
from evomerge.evaluators.asking.asked import Outsider
from evomerge.evaluators.asking.prompt_reader import PromptReader
from evomerge.evaluators.side_model import SideModel, loaded_writer, put_on
from evomerge.foundations.canonical import digest
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import EvaluationError, RunError
from evomerge.foundations.files import write_atomic
from evomerge.foundations.reading import is_folder, listed, read_bytes
from evomerge.genome.task_blocks import EvaluationBlock
from evomerge.inference.base import context_length

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FOLDER = KEEPS["divergence"]  # of a run folder
_MOST_BYTES = 1 << 34  # of a file


@dataclass(frozen=True)
class ReadText:
    """A text that a teacher is asked about.

    Attributes:
        text: As it stands.
        tokens: As the model that is scored reads its beginning.
    """

    text: str
    tokens: tuple[int, ...]

    @property
    def key(self) -> str:
        """Of what was kept."""
        return digest([self.text, list(self.tokens)])


@dataclass(frozen=True, eq=False)
class TeacherLogits:
    """What a teacher says behind every token of a text.

    Attributes:
        values: Its best logits, float32, (tokens, k).
        tokens: Which they are of, int32, same shape.
    """

    values: torch.Tensor
    tokens: torch.Tensor


class Teacher(Outsider):
    """Says what comes next in texts; it is in memory only while it reads those that are new.

    Args:
        place: Which model.
        key: Digest of all that its answers stand on.
        top_k: Logits of a place that are kept.
    """

    def __init__(self, place: SideModel, key: str, top_k: int) -> None:
        self._place, self._key, self._top_k = place, key, top_k
        self._known: dict[str, TeacherLogits] = {}
        self._folder: Path | None = None

    def keep_in(self, run_dir: Path | None) -> None:
        """Finds what was kept in a run folder, and keeps there what is new."""
        self._folder = None if run_dir is None else run_dir / FOLDER / self._key
        there: dict[str, TeacherLogits] = {}
        if self._folder is not None and is_folder(self._folder):
            for file in listed(self._folder):
                if file.suffix == ".safetensors":
                    there |= _kept(read_bytes(file, _MOST_BYTES, follow=False))
        self._keep({key: one for key, one in self._known.items() if key not in there})
        self._known = there | self._known

    def answers(self, asked: Sequence[ReadText], deadline: Deadline) -> Sequence[TeacherLogits]:
        """See :meth:`Outsider.answers`.

        Raises:
            RunError: it cannot be loaded, or reads other tokens than the model that is scored.
        """
        missing = {one.key: one for one in asked if one.key not in self._known}
        if missing:
            said = self._said(missing, deadline)
            self._keep(said)
            self._known |= said
        return [self._known[one.key] for one in asked]

    def _keep(self, said: Mapping[str, TeacherLogits]) -> None:
        """Writes what is new into the run folder, where there is one."""
        if self._folder is not None and said:
            tensors = {f"{key}.values": one.values for key, one in said.items()}
            tensors |= {f"{key}.tokens": one.tokens for key, one in said.items()}
            write_atomic(self._folder / f"{digest([*said])}.safetensors", save(tensors))

    def _said(
        self, missing: Mapping[str, ReadText], deadline: Deadline
    ) -> dict[str, TeacherLogits]:
        module, tokenizer = loaded_writer(self._place, "teacher")
        put_on(module, self._place.torch_device, "teacher")
        reader = PromptReader(tokenizer, EvaluationBlock())
        longest = context_length(module.config, tokenizer)
        found = {}
        for key, one in missing.items():
            deadline.check()
            own = tuple(reader.context(one.text, is_plain=True)[: len(one.tokens)])
            if own != one.tokens:
                raise RunError(
                    f"reads {one.text[:40]!r} as other tokens than the model that is scored, and "
                    "what they say cannot be compared",
                    where=f"teacher {self._place.name.text}",
                    fix="Name a teacher with the tokenizer of the merge.",
                )
            if len(own) > longest:
                what = f"teacher {self._place.name.text} reads {longest} tokens, got {len(own)}"
                raise EvaluationError(what, fix="Lower max_tokens.")
            found[key] = self._best(module, own)
        return found

    @torch.no_grad()
    def _best(self, module: PreTrainedModel, tokens: Sequence[int]) -> TeacherLogits:
        row = torch.tensor([list(tokens)], device=module.device)
        logits = module(input_ids=row, use_cache=False).logits[0].float()
        values, best = logits.topk(min(self._top_k, logits.shape[-1]))
        return TeacherLogits(values.cpu(), best.int().cpu())


@cache
def teacher(place: SideModel, key: str, top_k: int) -> Teacher:
    """The one of this process: tasks and splits that name the same share it."""
    return Teacher(place, key, top_k)


def _kept(content: bytes) -> dict[str, TeacherLogits]:
    """What a file holds; nothing where it is damaged, as all of it can be had again."""
    try:
        tensors = load(content)
        keys = [name.removesuffix(".values") for name in tensors if name.endswith(".values")]
        return {
            key: TeacherLogits(tensors[f"{key}.values"], tensors[f"{key}.tokens"]) for key in keys
        }
    except (SafetensorError, KeyError):
        return {}
