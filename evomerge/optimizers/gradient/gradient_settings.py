"""Settings of ``gradient``: what is trained, what it minimises, what it reads."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from evomerge.genome.misfit import MisfitError
from evomerge.optimizers.base import OptimizerSettings, TrainingSettings

_OF_PROMPTS = ("kl", "mse", "entropy")


class Losses(OptimizerSettings):
    """Weights of the terms that are minimised; 0 switches a term off.

    Attributes:
        nll: Negative log-likelihood of the right answers of the search tasks, of an option
            among the options.
        kl: Divergence from each source on its own prompts.
        mse: Square error of the logits against each source on its own prompts.
        entropy: Of the predictions on the prompts.
        similarity: Cosine of the weights of every two models.
        overlap: What the weights of every two models have in common.
        weighted_overlap: The same where their task vectors are neither parallel nor orthogonal.
        l1: Mean magnitude of the weights.
        l2: Mean square of the weights.
    """

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


class Prompts(OptimizerSettings):
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
        if self.dataset is None and "split" in self.model_fields_set:
            raise MisfitError("only a data set has splits", "split", fix="Leave it out.")
        if self.task is not None and self.column is not None:
            raise MisfitError("a task has no columns", "column", fix="Leave it out.")
        return self


class GradientSettings(TrainingSettings):
    """Settings of ``gradient``.

    Attributes:
        granularity: What a number is of: space (each weight that varies), tensor (each tensor
            and model, whatever groups the genome has: a plain recipe), or column (each input
            column of each tensor and model, as DAM has it: the result is written into the run
            folder as a checkpoint, one per epoch, which the recipe names).
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
        batch_size: Documents, or prompts per source, of a pass; it reads no more texts, and
            options are texts.
        accumulation: Passes of a step.
        documents: Of each task, drawn anew in every epoch; all by default.
        max_length: Tokens of a prompt that are read.
        temperature: Of kl and entropy.
        teacher_top_k: Logits of a teacher that are held per token; all without it.
        cache_teachers: Whether they are kept in the run folder, or computed anew in every epoch.
    """

    granularity: Literal["space", "tensor", "column"] = "space"
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

    @property
    def is_by_tensor(self) -> bool:
        """See :class:`TrainingSettings`."""
        return self.granularity == "tensor"

    def n_checkpoints(self, n_trials: int | None) -> int:
        """One per epoch, where every column has a number."""
        n_epochs = min(self.epochs, n_trials or self.epochs)
        return n_epochs if self.granularity == "column" else 0
