"""What a model says of texts at every place: its best logits, asked for once and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from evomerge.evaluators import KEEPS
from evomerge.evaluators.asking.asked import Outsider
from evomerge.evaluators.asking.prompt_reader import PromptReader
from evomerge.evaluators.side_model import SideModel, loaded_writer, put_on
from evomerge.evaluators.teacher_fit import unlike
from evomerge.foundations.canonical import digest
from evomerge.foundations.claims import Claims
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import RunError
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
        self._read: set[str] = set()  # files of it

    def keep_in(self, run_dir: Path | None) -> None:
        """Finds what was kept in a run folder, and keeps there what is new."""
        self._folder = None if run_dir is None else run_dir / FOLDER / self._key
        self._read = set()
        there = self._new()
        self._keep({key: one for key, one in self._known.items() if key not in there})
        self._known = there | self._known

    def answers(self, asked: Sequence[ReadText], deadline: Deadline) -> Sequence[TeacherLogits]:
        """See :meth:`Outsider.answers`; what another process has it say is waited for.

        Raises:
            RunError: it cannot be loaded, or reads other tokens than the model that is scored.
        """
        if self._missing(asked):
            folder = self._folder
            claim = nullcontext() if folder is None else _claims_in(folder).held("all", deadline)
            with claim:
                self._known |= self._new()
                if missing := self._missing(asked):
                    said = self._said(missing, deadline)
                    self._keep(said)
                    self._known |= said
        return [self._known[one.key] for one in asked]

    def _missing(self, asked: Sequence[ReadText]) -> dict[str, ReadText]:
        return {one.key: one for one in asked if one.key not in self._known}

    def _new(self) -> dict[str, TeacherLogits]:
        """What was written into the run folder since it was last looked at."""
        found: dict[str, TeacherLogits] = {}
        if self._folder is not None and is_folder(self._folder):
            for file in listed(self._folder):
                if file.suffix == ".safetensors" and file.name not in self._read:
                    found |= _kept(read_bytes(file, _MOST_BYTES, follow=False))
                    self._read.add(file.name)
        return found

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
            problem = unlike(one.text, one.tokens, reader, longest)
            if problem is not None:
                where = f"teacher {self._place.name.text}"
                raise RunError(problem.what, where=where, fix=problem.fix)
            found[key] = self._best(module, one.tokens)
        return found

    @torch.no_grad()
    def _best(self, module: PreTrainedModel, tokens: Sequence[int]) -> TeacherLogits:
        row = torch.tensor([list(tokens)], device=module.device)
        logits = module(input_ids=row, use_cache=False).logits[0].float()
        values, best = logits.topk(min(self._top_k, logits.shape[-1]))
        return TeacherLogits(values.cpu(), best.int().cpu())


@cache
def _claims_in(folder: Path) -> Claims:
    """The ones of this process."""
    return Claims(folder / "claims")


_SHARED: WeakValueDictionary[tuple[SideModel, str, int], Teacher] = WeakValueDictionary()


def teacher(place: SideModel, key: str, top_k: int) -> Teacher:
    """The one of this process: tasks and splits that name the same share it while they have it."""
    return _SHARED.setdefault((place, key, top_k), Teacher(place, key, top_k))


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
