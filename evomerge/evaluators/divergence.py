"""Compares what a model says of texts with what their teachers say: KL, without any labels.

Teachers are models, most often those that are merged, each with texts of its own. A document is a
line of a ``.jsonl`` file; it is read as it stands.

Source: the loss of DAM (2024), arXiv:2410.08371: the divergence to each source on its own data.
Differs: texts are read whole and alone, none is padded; every document counts alike, whatever its
length; the teachers' documents come in turns, as DAM zips them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError

from evomerge.evaluators.asking.asked import AskOther, AskPlaces, AskTokens, Places, Tokens
from evomerge.evaluators.asking.asking_kind import (
    Around,
    Asking,
    AskingKind,
    Item,
    Judgement,
    Lesson,
    Shown,
    TaughtText,
)
from evomerge.evaluators.beside import Beside, Room
from evomerge.evaluators.kind_of_task import Measure, TaskSettings
from evomerge.evaluators.side_model import SideModel
from evomerge.evaluators.task_files import all_read, json_rows, text_under
from evomerge.evaluators.teacher_fit import mismatch
from evomerge.foundations.canonical import digest
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import EvaluationError, GenomeError, Problem
from evomerge.foundations.findings import Finding
from evomerge.genome.block import Number, Whole, fits
from evomerge.genome.misfit import MisfitError
from evomerge.genome.model_names import ModelName
from evomerge.genome.task_blocks import Task

if TYPE_CHECKING:
    import torch

    from evomerge.evaluators.asking.prompt_reader import PromptReader
    from evomerge.evaluators.teacher_logits import Teacher, TeacherLogits

DIVERGENCE = "divergence"
_TEXTS_LOOKED_AT = 8  # of each teacher, before a run
_BYTES_OF_A_LOGIT = 8  # its value, and which token it is of


class DivergenceSettings(TaskSettings):
    """What stands under ``divergence:``."""

    teachers: Annotated[dict[str, str], Field(min_length=1)] = Field(
        description="Model -> a `.jsonl` file with its texts, e.g. `{org/math-7b: math.jsonl}`; "
        "models as the genome names them."
    )
    field: str = Field("text", description="Which text of each line is read.")
    max_tokens: Annotated[Whole, Field(ge=1)] = Field(
        512, description="Tokens of a text that are read: its beginning."
    )
    temperature: Annotated[Number, Field(gt=0)] = Field(
        2.0,
        description="What the logits of both are divided by; its square multiplies what comes out.",
    )
    top_k: Annotated[Whole, Field(ge=2)] = Field(
        128, description="Likeliest tokens of a teacher at each place that are compared and kept."
    )
    device: str = Field(
        "auto", description="Where teachers run; `auto` is a GPU where there is one."
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="Of the teachers' weights. Default: that of their files."
    )

    @fits("teachers")
    def _models(self) -> Iterator[MisfitError]:
        for name in self.teachers:
            try:
                model = ModelName.model_validate(name)
            except ValidationError:
                yield MisfitError(
                    f"{name!r} is no model", "teachers", fix="Name a Hub id or folder."
                )
                continue
            if model.lora is not None:
                what = f"{name!r} is an adapter on a model, expected a whole one"
                yield MisfitError(what, "teachers", fix="Merge it into its base first.")


class Divergence(AskingKind[tuple[str, str]]):
    """``divergence: {teachers: {org/math: math.jsonl}}``: lower is better; 0 says the same."""

    Settings = DivergenceSettings
    hears_all = True
    measures: tuple[Measure, ...] = (
        Measure(DIVERGENCE, False, low=0.0, what="T² KL from teacher to model, nats per place"),
    )

    def __init__(self, task: Task, around: Around) -> None:
        super().__init__(task, around)
        own = self.settings
        self._places = {
            name: SideModel.allowed(
                ModelName.model_validate(name), own.device, own.dtype, around.permissions
            )
            for name in own.teachers
        }
        self._n_places = 0  # at most, of the texts that are read
        apart = (Measure(_of(name), False, low=0.0) for name in own.teachers)
        self.measures = (*type(self).measures, *(apart if len(own.teachers) > 1 else ()))

    def items(self) -> Iterator[Item[tuple[str, str]]]:
        """See :meth:`AskingKind.items`; one text of each teacher after the other.

        Raises:
            GenomeError: of all files.
        """
        found: list[list[tuple[str, str]]] = []
        problems: list[Problem] = []
        for name, file in self.settings.teachers.items():
            try:
                found.append([(name, text) for text in self._texts(file)])
            except GenomeError as error:
                problems += (Problem(p.what, f"teachers.{name}", p.fix) for p in error.problems)
        if problems:
            raise GenomeError.of(problems)
        order = [one for several in zip_longest(*found) for one in several if one is not None]
        # A token is a byte at least.
        lengths = (len(text.encode(errors="replace")) for _, text in order[: self.task.limit])
        self._n_places = sum(min(length + 1, self.settings.max_tokens) for length in lengths)
        for one in order:
            yield Item(one, one[1], list(one))

    def _texts(self, file: str) -> list[str]:
        """Those of a teacher.

        Raises:
            GenomeError: the file cannot be read, or holds none.
        """
        own = self.settings.field
        texts = all_read(json_rows(file), lambda one: text_under(one[1], own, file, one[0]))
        if not texts:
            raise GenomeError(f"{file!r} holds no text", fix="Put texts into it.")
        return texts

    def judge(self, item: Item[tuple[str, str]]) -> Asking:
        """See :meth:`AskingKind.judge`."""
        from evomerge.evaluators.teacher_logits import ReadText

        name, text = item.content
        read, longest = yield AskTokens(text, is_plain=True)
        tokens = tuple(read[: min(longest, self.settings.max_tokens)])
        said = yield AskOther(self._teachers[name], ReadText(text, tokens))
        reader = _Comparison(said, self.settings.temperature)
        value = yield AskPlaces(Tokens(tokens), reader, is_whole=True)
        values = {DIVERGENCE: value}
        if len(self.settings.teachers) > 1:
            values[_of(name)] = value
        return Judgement(values, None, Shown(text, f"{value:.4g} from what {name} says"))

    def lesson(self, item: Item[tuple[str, str]]) -> Lesson | None:
        """See :meth:`AskingKind.lesson`; of one teacher's texts where its measure is read."""
        (name, text), own = item.content, self.settings
        metric = (self.task.metric or DIVERGENCE).partition(",")[0]
        if metric not in (DIVERGENCE, _of(name)):
            return None

        def said(tokens: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
            from evomerge.evaluators.teacher_logits import ReadText  # it loads torch

            (found,) = self._teachers[name].answers([ReadText(text, tokens)], Deadline())
            return found.values, found.tokens

        return TaughtText(text, own.max_tokens, own.temperature, said)

    def findings(self) -> Iterator[Finding]:
        """See :meth:`AskingKind.findings`."""
        for name, place in self._places.items():
            yield from place.findings(f"teachers.{name}")

    def misfits(
        self, items: Sequence[Item[tuple[str, str]]], reader: PromptReader, longest: int
    ) -> Iterator[Problem]:
        """See :meth:`AskingKind.misfits`: a teacher of other tokens, or that reads less."""
        most = min(longest, self.settings.max_tokens)
        for name, place in self._places.items():
            texts = [text for owner, text in (item.content for item in items) if owner == name]
            found = mismatch(place, texts[:_TEXTS_LOOKED_AT], reader, most)
            if found is not None:
                yield Problem(f"{name} {found.what}", f"teachers.{name}", found.fix)

    def room(self) -> Room:
        """See :meth:`AskingKind.room`; one teacher at a time, and what all of them say."""
        largest = max(self._places.values(), key=lambda place: place.n_bytes)
        kept = self._n_places * self.settings.top_k * _BYTES_OF_A_LOGIT
        held = {
            "the largest teacher": largest.beside(by_turns=True),
            f"what teachers say in {self.task.name}": Beside(kept),
        }
        return {what: one for what, one in held.items() if one.n_bytes}

    def keep_in(self, run_dir: Path | None) -> None:
        """See :meth:`AskingKind.keep_in`."""
        for one in self._teachers.values():
            one.keep_in(run_dir)

    def stands_on(self) -> Sequence[Any]:
        """See :meth:`AskingKind.stands_on`; every byte of the teachers."""
        own = self.settings
        return [self._prints, own.max_tokens, own.temperature, own.top_k, own.dtype]

    @property
    def _prints(self) -> dict[str, str]:
        return {name: one.fingerprint for name, one in self._places.items()}

    @cached_property
    def _teachers(self) -> dict[str, Teacher]:
        from evomerge.evaluators.teacher_logits import teacher  # it loads torch

        top_k, dtype = self.settings.top_k, self.settings.dtype
        return {
            name: teacher(place, digest([self._prints[name], top_k, dtype]), top_k)
            for name, place in self._places.items()
        }


@dataclass(frozen=True)
class _Comparison:
    """Reads how far a model is from a teacher, at the mean over the places of a text.

    Attributes:
        said: By the teacher; the same object in every trial.
        temperature: Of both.
    """

    said: TeacherLogits
    temperature: float

    def __call__(self, places: Places) -> float:
        """``T^2 KL(teacher || model)`` over the teacher's best tokens, both made to sum to 1."""
        found = places.log_probabilities
        tokens = self.said.tokens.long().to(found.device)
        if int(tokens.max()) >= found.shape[-1]:
            raise EvaluationError(
                f"a teacher says token {int(tokens.max())}, the model has {found.shape[-1]}",
                fix="Name teachers with the vocabulary of the merge.",
            )
        teacher = (self.said.values.to(found.device) / self.temperature).log_softmax(-1)
        model = (found.gather(1, tokens) / self.temperature).log_softmax(-1)
        apart = (teacher.exp() * (teacher - model)).sum(-1).double().mean()
        return max(float(apart) * self.temperature**2, 0.0)  # rounding alone goes below


def _of(name: str) -> str:
    """The measure of one teacher's texts; a comma would begin a filter."""
    return f"from_{name.replace(',', '_')}"
