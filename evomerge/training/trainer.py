"""Learns the weights of a recipe by gradient descent, one epoch at a time.

An epoch reads every document once, in an order of its own. Each step merges the live model,
reads some documents, turns the gradient of each tensor into numbers, and moves the weights.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from evomerge.foundations.seeding import stream
from evomerge.optimizers.gradient.gradient_settings import GradientSettings
from evomerge.optimizers.search_context import Effort, Lesson
from evomerge.recipe.own_names import of_trained
from evomerge.training import losses
from evomerge.training.coefficients import Numbers
from evomerge.training.descent import Descent, State
from evomerge.training.mixture import Mixture
from evomerge.training.passes import Exercise, OptionTexts, Pass, TaughtTokens, Text, fitting
from evomerge.training.teachers import Said, Teachers
from evomerge.training.written_models import Checkpoints

Array = NDArray[np.float64]
_Any = TypeVar("_Any")


@dataclass(frozen=True)
class Lessons:
    """What is read.

    Attributes:
        answers: Task -> what its documents teach, as it is known now; asked before every epoch.
        prompts: Texts of each source, in the order of the models; empty where none are read.
    """

    answers: Callable[[], Mapping[str, Sequence[Exercise]]]
    prompts: Sequence[Sequence[Text]] = ()


@dataclass(frozen=True)
class _Step:
    """What one step reads: passes over answers, and one over prompts per source and pass."""

    answers: list[list[Exercise]]
    prompts: list[tuple[int, list[Text]]]


class GradientTrainer:
    """See the module; implements :class:`evomerge.optimizers.search_context.Trainer`.

    Args:
        mixture: The live model and where its weights act.
        lessons: What is read.
        settings: How.
        teachers: Who says what the prompts should give; None where nobody is asked.
        checkpoints: Writes the model of an epoch; None where a recipe can say it.
        say: Tells people where an epoch is, and which share of it is done.

    Attributes:
        n_passes: Passes made so far, forward and backward.
        n_tokens: Tokens read in them, padding included.
        n_documents: Documents whose answers were read in them.
    """

    def __init__(
        self,
        mixture: Mixture,
        lessons: Lessons,
        settings: GradientSettings,
        teachers: Teachers | None = None,
        checkpoints: Checkpoints | None = None,
        say: Callable[[str, float], None] | None = None,
    ) -> None:
        self._mixture = mixture
        self._lessons = lessons
        self._settings = settings
        self._teachers = teachers
        self._checkpoints = checkpoints
        self._say = say or _unheard
        self._descent = Descent.of(settings, mixture.trained.stretches)
        self._angles: torch.Tensor | None = None
        if settings.losses.weighted_overlap:
            self._angles = mixture.angles()
        self.n_passes = 0
        self.n_tokens = 0
        self.n_documents = 0

    def epoch(
        self, index: int, genotype: Array, state: bytes | None, seed: int, pace: float = 1.0
    ) -> Lesson:
        """See :class:`evomerge.optimizers.search_context.Trainer`."""
        began, before = time.perf_counter(), self._effort(0.0)
        trained = self._mixture.trained
        if state is None:
            now = State.begin(trained.settled(trained.of(genotype)))
        else:
            now = State.from_bytes(state, trained.of(genotype).size)
        steps = list(self._steps(seed))
        self._ask_teachers(steps)
        totals: dict[str, float] = defaultdict(float)
        n_steps = self._settings.epochs * len(steps)
        for number, step in enumerate(steps, 1):
            found, gradient = self.gradient(now.values, step.answers, step.prompts)
            for name, value in found.items():
                totals[name] += value / len(steps)
            # By the epoch, not by the steps made: those of epochs taken back are not among them.
            rate = pace * self._descent.rate(index * len(steps) + number - 1, n_steps)
            self._tell(index, number, len(steps), found, rate)
            if np.isfinite(gradient).all():  # a step into nowhere is not made
                moved = self._descent.step(now, gradient.astype(now.values.dtype), rate)
                now = replace(moved, values=trained.settled(moved.values))
            now = replace(now, position=now.position + len(step.answers) + len(step.prompts))
        config = self._mixture.config(now.values)
        lesson = Lesson(trained.genotype(now.values), now.to_bytes(), totals, config)
        if self._checkpoints is not None:
            name = self._checkpoints.name_of(self._checkpoints.write(now.values))
            lesson = replace(lesson, config=dict(of_trained(name).config), folder=name)
        spent = self._effort(time.perf_counter() - began) - before
        return replace(lesson, effort=spent)

    def _effort(self, seconds: float) -> Effort:
        """What was spent so far."""
        n_taught = 0 if self._teachers is None else self._teachers.n_tokens
        return Effort(seconds, self.n_passes, self.n_tokens, n_taught, self.n_documents)

    def _tell(
        self, epoch: int, step: int, n_steps: int, found: Mapping[str, float], rate: float
    ) -> None:
        """Where the epoch is, with the loss before the step."""
        loss = sum(getattr(self._settings.losses, name) * term for name, term in found.items())
        self._say(
            f"epoch {epoch + 1} of {self._settings.epochs}: step {step} of {n_steps}, "
            f"loss {loss:.4g}, learning rate {rate:.3g}",
            step / n_steps,
        )

    def restore(self, lesson: Lesson) -> None:
        """See :class:`evomerge.optimizers.search_context.Trainer`."""
        if self._checkpoints is not None and lesson.folder is not None:
            values = State.from_bytes(lesson.state).values
            self._checkpoints.restore(lesson.folder, values)

    def _steps(self, seed: int) -> Iterator[_Step]:
        """What the steps of an epoch read."""
        size, passes = self._settings.batch_size, self._settings.accumulation
        answers = self._drawn_answers(seed) if self._settings.losses.nll else []
        prompts = [
            _shuffled(own, stream(seed, "prompts", source))
            for source, own in enumerate(self._lessons.prompts)
        ]
        n_texts = len(answers) or max(map(len, prompts), default=0)
        for start in range(0, n_texts, size * passes):
            reads = list(_passes(answers[start : start + size * passes], size))
            taught = [
                (source, [own[i % len(own)] for i in range(at, min(at + size, n_texts))])
                for at in range(start, min(start + size * passes, n_texts), size)
                for source, own in enumerate(prompts)
            ]
            yield _Step(reads, taught)

    def _drawn_answers(self, seed: int) -> list[Exercise]:
        """Documents of all tasks, mixed; each task counts as it does in the score."""
        drawn: list[Exercise] = []
        for name, texts in self._lessons.answers().items():
            own = _shuffled(texts, stream(seed, "answers", name))[: self._settings.documents]
            drawn += [replace(text, share=text.share / len(own)) for text in own]
        total = sum(text.share for text in drawn)
        drawn = [replace(text, share=text.share * len(drawn) / total) for text in drawn]
        return _shuffled(drawn, stream(seed, "order"))

    def _ask_teachers(self, steps: Sequence[_Step]) -> None:
        """Has every source read its texts of the epoch, so that each is loaded once."""
        self._said: dict[tuple[int, Text], Said] = {}
        terms = self._settings.losses
        if self._teachers is None or not (terms.kl or terms.mse):
            return
        for source, texts in enumerate(self._lessons.prompts):
            drawn = {text for step in steps for owner, own in step.prompts if owner == source
                     for text in own}  # fmt: skip
            # What is kept is asked for as a whole, so that it is found again in another epoch.
            self._say(f"source {source + 1} of {len(self._lessons.prompts)} reads its prompts", 0.0)
            ordered = [t for t in dict.fromkeys(texts) if self._teachers.keeps or t in drawn]
            said = self._teachers.ask(source, ordered, self._settings.batch_size)
            self._said |= {(source, t): s for t, s in zip(ordered, said, strict=True)}

    def gradient(
        self,
        values: Numbers,
        answers: Sequence[Sequence[Exercise]],
        prompts: Sequence[tuple[int, Sequence[Text]]] = (),
    ) -> tuple[dict[str, float], Array]:
        """The terms at some weights, and the derivative of their weighted sum, shape (n,).

        Args:
            values: The weights.
            answers: Passes over documents.
            prompts: Passes over prompts, each with its source.
        """
        module = self._mixture.at(values).module
        n_answers = sum(map(len, answers))
        n_prompt_tokens = sum(text.n_read for _, own in prompts for text in own)
        found: dict[str, float] = defaultdict(float)
        with self._mixture.listening(), fitting():
            for texts in answers:
                self._backward(found, self._answer_terms(module, texts, n_answers))
            for source, texts in prompts:
                self._backward(found, self._prompt_terms(module, source, texts, n_prompt_tokens))
            gradient = self._mixture.gradient(values)
        terms, own = self._weight_terms(values)
        return {**found, **terms}, gradient + own

    def _backward(self, found: dict[str, float], terms: Mapping[str, torch.Tensor]) -> None:
        """Adds terms to what was found, and their derivative to what the mixture hears."""
        weighted = [getattr(self._settings.losses, name) * term for name, term in terms.items()]
        for name, term in terms.items():
            found[name] += float(term.detach())
        if weighted:
            torch.stack(weighted).sum().backward()  # type: ignore[no-untyped-call]  # torch

    def _answer_terms(
        self, module: torch.nn.Module, exercises: Sequence[Exercise], n_exercises: int
    ) -> dict[str, torch.Tensor]:
        texts = [text for exercise in exercises for text in exercise.texts]
        self.n_documents += len(exercises)
        batch = self._read(texts)
        logits = batch.logits(module)  # type: ignore[arg-type]  # a causal language model
        lengths = [text.n_read for text in texts]
        found = losses.likelihoods(logits, batch.wanted, lengths)
        n_each = [len(exercise.texts) for exercise in exercises]
        places = iter(torch.split(logits, lengths))
        terms = [
            exercise.share * _apart(exercise, own, [next(places) for _ in range(n)])
            for exercise, own, n in zip(exercises, torch.split(found, n_each), n_each, strict=True)
        ]
        return {"nll": torch.stack(terms).sum() / n_exercises}

    def _prompt_terms(
        self, module: torch.nn.Module, source: int, texts: Sequence[Text], n_tokens: int
    ) -> dict[str, torch.Tensor]:
        weights, temperature = self._settings.losses, self._settings.temperature
        logits = self._read(texts).logits(module)  # type: ignore[arg-type]  # as above
        terms: dict[str, torch.Tensor] = {}
        if weights.entropy:
            terms["entropy"] = losses.entropy(logits, temperature) / n_tokens
        if weights.kl or weights.mse:
            lengths = [text.n_read for text in texts]
            said = [self._said[source, text] for text in texts]
            pairs = [
                (one.among(own), one.logits)
                for one, own in zip(said, torch.split(logits, lengths), strict=True)
            ]
            student, teacher = (torch.cat(part) for part in zip(*pairs, strict=True))
            if weights.kl:
                terms["kl"] = losses.divergence(student, teacher, temperature) / n_tokens
            if weights.mse:
                terms["mse"] = losses.square_error(student, teacher) / n_tokens
        return terms

    def _read(self, texts: Sequence[Text]) -> Pass:
        batch = Pass.of(texts, self._mixture.device)
        self.n_passes += 1
        self.n_tokens += batch.n_tokens
        return batch

    def _weight_terms(self, values: Numbers) -> tuple[dict[str, float], Array]:
        """The terms of the weights that are on, and the derivative of their weighted sum."""
        trained = self._mixture.trained
        leaves = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        models, places = map(torch.from_numpy, (trained.models, trained.positions))
        modules = torch.from_numpy(trained.modules)
        terms = losses.of_weights(leaves, models, places, modules, self._angles)
        on = {name: term for name, term in terms.items() if getattr(self._settings.losses, name)}
        if not on:
            return {}, np.zeros_like(values)
        total = torch.stack([getattr(self._settings.losses, n) * t for n, t in on.items()]).sum()
        (gradient,) = torch.autograd.grad(total, leaves)
        return {name: float(term.detach()) for name, term in on.items()}, gradient.numpy()


def _unheard(activity: str, share: float) -> None:
    """Nobody wants to know."""


def _apart(
    exercise: Exercise, likelihoods: torch.Tensor, logits: Sequence[torch.Tensor]
) -> torch.Tensor:
    """How far the model is from what an exercise wants: from a teacher, or from right answers."""
    if not isinstance(exercise, TaughtTokens):
        return _nll(exercise, likelihoods)
    (own,) = logits
    tokens, teacher = (one.to(own.device) for one in (exercise.tokens, exercise.logits))
    student = own.gather(1, tokens.long())
    return losses.divergence(student, teacher, exercise.temperature) / len(own)


def _nll(exercise: Text | OptionTexts, likelihoods: torch.Tensor) -> torch.Tensor:
    """Of a text the mean over its tokens, of a choice that of what is right among the options."""
    if isinstance(exercise, Text):
        return -likelihoods[0] / exercise.n_read
    n_options = len(exercise.options)
    scores = likelihoods[:n_options]
    if exercise.against:
        scores = scores - likelihoods[n_options:]
    return losses.choice_nll(scores / scores.new_tensor(exercise.lengths), exercise.right)


def _shuffled(texts: Sequence[_Any], random: np.random.Generator) -> list[_Any]:
    return [texts[index] for index in random.permutation(len(texts))]


def _passes(exercises: Sequence[Exercise], size: int) -> Iterator[list[Exercise]]:
    """As many at once as have no more texts than a pass, one at least."""
    own: list[Exercise] = []
    n_texts = 0
    for exercise in exercises:
        n_more = len(exercise.texts)
        if own and n_texts + n_more > size:
            yield own
            own, n_texts = [], 0
        own.append(exercise)
        n_texts += n_more
    if own:
        yield own
