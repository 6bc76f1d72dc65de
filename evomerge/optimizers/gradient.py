"""Differentiable merging: learns the weights by back-propagation instead of trial and error.

Source: Gauthier-Caron et al., Merging in a bottle: differentiable adaptive merging (2024),
arXiv:2410.08371 (DAM); arXiv:2407.20999 (MoFO).
Differs: one number per model and place of the recipe instead of one per column, so that the
result is a recipe (``granularity: column`` has one per column); numbers in float64, those of
columns in float32, where bfloat16 rounds away most steps; by default the answers of the search
tasks teach, where DAM has the sources teach (``losses: {nll: 0, kl: 1}``).
Every epoch is a trial; the search tasks decide between them, so that training too long loses
nothing but time.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from evomerge.errors import GenomeError, Problem, RunError
from evomerge.genome.schema import Genome
from evomerge.optimizers.base import Optimizer, Settings
from evomerge.optimizers.context import Lesson, Trainer
from evomerge.optimizers.prompt_rows import refuse_unreadable
from evomerge.seeding import stream_seed
from evomerge.space import Space

Array = NDArray[np.float64]
TRAINABLE = ("linear", "task_arithmetic")
_OF_PROMPTS = ("kl", "mse", "entropy")
_INSTEAD = "use optimizer: cma_es."


class Losses(BaseModel):
    """Weights of the terms that are minimised; 0 switches a term off.

    Attributes:
        nll: Negative log-likelihood of the right answers of the search tasks.
        kl: Divergence from each source on its own prompts.
        mse: Square error of the logits against each source on its own prompts.
        entropy: Of the predictions on the prompts.
        similarity: Cosine of the weights of every two models.
        overlap: What the weights of every two models have in common.
        weighted_overlap: The same where their task vectors are neither parallel nor orthogonal.
        l1: Mean magnitude of the weights.
        l2: Mean square of the weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    nll: float = Field(default=1.0, ge=0)
    kl: float = Field(default=0.0, ge=0)
    mse: float = Field(default=0.0, ge=0)
    entropy: float = Field(default=0.0, ge=0)
    similarity: float = Field(default=0.0, ge=0)
    overlap: float = Field(default=0.0, ge=0)
    weighted_overlap: float = Field(default=0.0, ge=0)
    l1: float = Field(default=0.0, ge=0)
    l2: float = Field(default=0.0, ge=0)

    @property
    def need_prompts(self) -> bool:
        """Whether a term reads prompts."""
        return any(getattr(self, name) > 0 for name in _OF_PROMPTS)


class Prompts(BaseModel):
    """Texts a source is the teacher of; one of the first three.

    Attributes:
        file: JSON lines.
        task: A search task; its documents with their answers.
        dataset: A data set on the Hub.
        split: Of the data set.
        column: Which holds the text; the first of text, prompt, instruction, question, query,
            input that is there.
        limit: First so many rows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str | None = None
    task: str | None = None
    dataset: str | None = None
    split: str = "train"
    column: str | None = None
    limit: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_place(self) -> Prompts:
        if sum(place is not None for place in (self.file, self.task, self.dataset)) != 1:
            raise ValueError("give one of file, task and dataset")
        return self


class GradientSettings(Settings):
    """Settings of ``gradient``.

    Attributes:
        granularity: What a number is of: space (each weight that varies), or column (each
            input column of each tensor and model, as DAM has it: the result is written into the
            run folder as a checkpoint, one per epoch, which the recipe names).
        epochs: Passes over the data; each is a trial.
        losses: Weight of each term: nll (1), kl, mse, entropy, similarity, overlap,
            weighted_overlap, l1, l2 (0).
        prompts: Model as the genome names it -> texts it teaches, each a file of JSON lines, a
            search task or a data set, with column and limit; kl, mse and entropy read them.
        learning_rate: Of the weights, in their own units.
        schedule: How it falls to the last epoch.
        warmup: Share of the steps in which it rises from 0.
        weight_decay: Pull of the weights to 0, times the learning rate.
        mofo: Share of the weights, those of the largest momentum, that a step moves; without
            it all move (AdamW).
        clip: Largest norm of a gradient.
        batch_size: Documents, or prompts per source, of a pass.
        accumulation: Passes of a step.
        documents: Of each task, drawn anew in every epoch; all by default.
        max_length: Tokens of a prompt that are read.
        temperature: Of kl and entropy.
        teacher_top_k: Logits of a teacher that are held per token; all without it.
        cache_teachers: Whether they are kept in the run folder, or computed anew in every epoch.
    """

    granularity: Literal["space", "column"] = "space"
    epochs: int = Field(default=10, ge=1)
    losses: Losses = Losses()
    prompts: dict[str, list[Prompts]] = Field(default_factory=dict)
    learning_rate: float = Field(default=0.05, gt=0)
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    mofo: float | None = Field(default=None, gt=0, le=1)
    clip: float | None = Field(default=1.0, gt=0)
    batch_size: int = Field(default=32, ge=1)
    accumulation: int = Field(default=1, ge=1)
    documents: int | None = Field(default=None, ge=1)
    max_length: int = Field(default=2048, ge=2)
    temperature: float = Field(default=2.0, gt=0)
    teacher_top_k: int | None = Field(default=128, ge=2)
    cache_teachers: bool = True


class Gradient(Optimizer):
    """Proposes where each epoch of training ends."""

    Settings: ClassVar[type[Settings]] = GradientSettings
    continuous_only: ClassVar[bool] = True
    is_adaptive: bool = False  # the texts steer it, not the scores
    settings: GradientSettings

    @classmethod
    def obstacles(cls, space: Space, genome: Genome, settings: Any) -> Iterator[Problem]:
        """Where there is no gradient, or no one model to train."""
        yield from super().obstacles(space, genome, settings)
        definition = genome.genome
        if definition.merge_method not in TRAINABLE:
            yield Problem(
                f"{definition.merge_method} has no useful gradient (it trims, drops, elects or "
                f"turns), expected {' or '.join(TRAINABLE)}",
                "name",
                f"Use merge_method: task_arithmetic, or {_INSTEAD}",
            )
        if definition.adapters == "factors":
            yield Problem(
                "A and B of adapters are summed apart (adapters: factors), gradient learns weights "
                "of whole models",
                "name",
                f"Use adapters: delta, or {_INSTEAD}",
            )
        others = sorted({p.name.partition("[")[0] for p in space} - {"weight", "share"})
        if definition.merge_method in TRAINABLE and others:
            yield Problem(
                f"{', '.join(others)} cannot vary here: gradient learns weights only",
                "name",
                f"Fix the value, or {_INSTEAD}",
            )
        if genome.execution.workers > 1:
            yield Problem(
                f"models are trained one after the other, got {genome.execution.workers} workers",
                "name",
                f"Use execution.workers: 1, or {_INSTEAD}",
            )
        if settings.losses.weighted_overlap and definition.merge_method == "linear":
            yield Problem(
                "weighted_overlap measures angles from a base, which linear has not",
                "losses",
                "Use overlap, or merge_method: task_arithmetic.",
            )
        if not any(settings.losses.model_dump().values()):
            yield Problem("every loss is 0: there is nothing to learn", "losses", "Leave nll at 1.")
        yield from _missing_prompts(genome, settings)
        yield from _unreadable_prompts(genome, settings)

    def _start(self) -> None:
        self._n_asked = 0
        self._best: tuple[float, Array] | None = None
        self._state: bytes | None = None
        self._genotype: Array = self.space.initial
        self._config: Mapping[str, Any] | None = None
        self._made: Trainer | None = None

    @property
    def _n_epochs(self) -> int:
        """As many as the schedule is for; a budget may end the training before."""
        return self.settings.epochs

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are over."""
        return self._n_asked >= self._n_epochs

    @property
    def activity(self) -> str:
        """Which epoch is next; nothing where it was paid for before."""
        if self.context.keepsakes.recall(self._name) is not None:
            return ""
        return f"epoch {self._n_asked + 1} of {self._n_epochs}: training"

    @property
    def _name(self) -> str:
        """Of what is kept of the next epoch."""
        return f"epoch-{self._n_asked + 1}.npz"

    def _learn(self, genotypes: Array, losses: Array) -> None:
        for genotype, loss in zip(genotypes, losses.tolist(), strict=True):
            if np.isfinite(loss) and (self._best is None or loss < self._best[0]):
                self._best = (loss, genotype)

    def _ask(self) -> Array:
        if self._n_asked == 0 and self._best is not None:
            self._genotype = self._best[1]
        kept = self.context.keepsakes.recall(self._name)
        lesson = self._trained() if kept is None else self._found(kept)
        self._n_asked += 1
        self._genotype, self._state, self._config = lesson.genotype, lesson.state, lesson.config
        self.labels = (f"epoch {self._n_asked}",)
        return np.array(lesson.genotype[None])

    def _trained(self) -> Lesson:
        """The next epoch; kept before anyone hears of it."""
        seed = stream_seed(self.seed, "optimizer", "epoch", self._n_asked)
        lesson = self._trainer().epoch(self._n_asked, self._genotype, self._state, seed)
        self.context.keepsakes.keep(self._name, _to_bytes(lesson))
        return lesson

    def _found(self, kept: bytes) -> Lesson:
        """An epoch that was paid for before, its folder in place."""
        lesson = _from_bytes(kept)
        if lesson.folder is not None and not Path(lesson.folder).is_dir():
            self._trainer().restore(lesson)
        return lesson

    def _trainer(self) -> Trainer:
        """Made when it is first needed."""
        if self._made is None:
            if self.context.trainer is None:
                raise RunError(
                    "there is no model to train here",
                    where="optimizer.name",
                    fix="Use one worker and weights of whole models, or cma_es.",
                )
            self._made = self.context.trainer(self.settings)
        return self._made

    def _tell(self, genotypes: Array, losses: Array) -> None:
        """Nothing: the texts teach."""

    def recipe_config(self, row: int) -> dict[str, Any] | None:
        """The recipe of the last epoch where no point of the space means it."""
        return None if self._config is None else dict(self._config)


def _missing_prompts(genome: Genome, settings: GradientSettings) -> Iterator[Problem]:
    """Models without texts, and texts without a model."""
    models = [source.model.text for source in genome.genome.models]
    unknown = sorted(set(settings.prompts) - set(models))
    if unknown:
        yield Problem(
            f"{unknown[0]!r} is none of the models ({', '.join(models)})",
            "prompts",
            "Name a model as genome.models does.",
        )
    missing = [model for model in models if not settings.prompts.get(model)]
    if settings.losses.need_prompts and missing:
        yield Problem(
            f"kl, mse and entropy read prompts of each model, {', '.join(missing)} has none",
            "prompts",
            "Name a file of JSON lines or a search task for each.",
        )


def _unreadable_prompts(genome: Genome, settings: GradientSettings) -> Iterator[Problem]:
    """Files that are not there, and tasks that do not steer."""
    tasks = [task.name for task in genome.tasks]
    for prompts in (one for entries in settings.prompts.values() for one in entries):
        if prompts.file is not None and not Path(prompts.file).is_file():
            yield Problem(f"there is no file {prompts.file}", "prompts", "Mend its name.")
        elif prompts.file is not None:
            try:
                refuse_unreadable(Path(prompts.file), prompts.column)
            except GenomeError as error:
                yield from (Problem(p.what, "prompts", p.fix) for p in error.problems)
        if prompts.task is not None and prompts.task not in tasks:
            yield Problem(
                f"{prompts.task!r} is none of the search tasks ({', '.join(tasks)})",
                "prompts",
                "Name one of them, or a file of JSON lines.",
            )


def _to_bytes(lesson: Lesson) -> bytes:
    buffer = io.BytesIO()
    told = {"losses": dict(lesson.losses), "config": lesson.config, "folder": lesson.folder}
    np.savez(
        buffer,
        genotype=lesson.genotype,
        state=np.frombuffer(lesson.state, dtype=np.uint8),
        told=np.frombuffer(json.dumps(told).encode(), dtype=np.uint8),
    )
    return buffer.getvalue()


def _from_bytes(content: bytes) -> Lesson:
    with np.load(io.BytesIO(content), allow_pickle=False) as held:
        told = json.loads(held["told"].tobytes())
        return Lesson(
            held["genotype"],
            held["state"].tobytes(),
            told["losses"],
            told["config"],
            told.get("folder"),
        )
