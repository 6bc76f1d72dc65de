"""Mixtures of experts: the numbers of several merges that mergekit-moe joins into one model.

Of the first expert everything reaches the result, of the others their MLPs alone: nothing else of
them is searched.

Source: Aratako, Task-Vector-Merge-Optimizer (github.com/Aratako), of whose weights most do nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from pydantic import ValidationError

from evomerge.foundations.errors import GenomeError
from evomerge.genome.load import problems_of
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.misfit import MisfitError
from evomerge.genome.model_names import ModelName
from evomerge.genome.yaml_file import YamlFile
from evomerge.merge_spaces import merge_space_for
from evomerge.merge_spaces.base import MergeSpace, SpaceSettings
from evomerge.merge_spaces.moe_expert import SearchedExpert, definition_of, prompts_of
from evomerge.merge_spaces.moe_settings import MoeExpert, MoeSettings
from evomerge.nouns.space import Point, Space
from evomerge.recipe.moe import OF_STATES, Moe, joined_in
from evomerge.recipe.moe_outputs import OUTPUTS, lacks_biases, left_out, output_of
from evomerge.recipe.plain import Recipe

_MLP = ".mlp."
_FRAME = ("tokenizer", "tokenizer_source", "chat_template")  # of the first expert, as it is merged


class MoeSpace(MergeSpace):
    """The merges of the experts, side by side."""

    name: ClassVar[str] = "moe"
    Settings: ClassVar[type[SpaceSettings]] = MoeSettings
    unlearned: ClassVar[str] = "experts are reached through a router"
    unadapted: str = Moe.unadapted
    settings: MoeSettings

    @classmethod
    def n_copies(cls, definition: MergeDefinition, tensor: str) -> int:
        """As many MLPs as experts."""
        settings = _settings_of(definition)
        if settings is None or _MLP not in tensor:
            return 1
        return len(settings.experts) + len(settings.shared_experts)

    @classmethod
    def _unfit(cls, definition: MergeDefinition) -> Iterator[MisfitError]:
        yield from super()._unfit(definition)
        settings = _settings_of(definition)  # what is wrong with them, others tell
        known = {source.model for source in definition.models}
        for index, expert in enumerate(settings.experts if settings else ()):
            place = ("space", "experts", index)
            yield from _unfit_expert(definition, expert, place, known)
            given = [key for key in _FRAME if getattr(definition, key) is not None]
            if index == 0 and expert.model is not None and given:
                what = f"the tokenizer is this model's own, so that {given[0]} changes nothing"
                yield MisfitError(what, *place, fix="Let the first expert be a merge.")

    def _build(self) -> Space:
        settings = self.settings
        self._made = self._output()
        self._experts = tuple(
            SearchedExpert.of(self, settings.experts, index)
            for index in range(len(settings.experts))
        )
        self.reads_prompts = settings.gate_mode in OF_STATES and bool(self._experts[0].stage)
        parameters = [named for expert in self._experts for named in expert.parameters]
        self.idle = tuple(one for expert in self._experts for one in expert.idle)
        if not parameters and not self.idle:
            raise GenomeError(
                "nothing varies: every expert is a model as it is",
                where="genome.space.experts",
                fix="Let one be a merge, or join them with mergekit-moe.",
            )
        return Space(tuple(parameters))

    def _output(self) -> str:
        """What mergekit-moe makes of the models, so that nothing of them is lost.

        Raises:
            GenomeError: nothing, or nothing that can be scored.
        """
        settings, architecture = self.settings, self.architecture
        shared = [bool(one.positive_prompts) for one in settings.shared_experts]
        wanted = settings.architecture
        made = output_of(architecture.name, wanted, shared, settings.gate_mode)
        if made is None:
            kinds = [name for name, one in OUTPUTS.items() if architecture.name in one.made_of]
            could = f"it makes {' or '.join(kinds)} of them, as far as shared_experts fit"
            listed = sorted({name for one in OUTPUTS.values() for name in one.made_of})
            raise GenomeError(
                f"mergekit-moe makes no {wanted or 'mixture'} of {architecture.name} with "
                f"{len(shared)} shared experts" + (f"; {could}" if kinds else ""),
                where="genome.space.architecture" if wanted else "genome.models",
                fix="qwen needs one shared expert, mixtral and qwen3 have none."
                if kinds
                else f"Use models of {', '.join(listed)}.",
            )
        if OUTPUTS[made].unheld:
            raise GenomeError(
                f"mergekit-moe makes {made} of these models and settings, which transformers does "
                f"not hold: {OUTPUTS[made].unheld}",
                where="genome.space.architecture",
                fix="Use architecture: mixtral without shared experts, or qwen with one.",
            )
        if architecture.has_own_width and lacks_biases(made, architecture.layer_tensors):
            raise GenomeError(
                f"mergekit-moe gives a {made} mixture biases as long as hidden_size, but the "
                "attention heads of these models have another width (head_dim): it would not load",
                where="genome.space.architecture",
                fix="Use architecture: mixtral without shared experts.",
            )
        lost = [*left_out(made, architecture.layer_tensors)]
        if lost:
            raise GenomeError(
                f"mergekit-moe leaves {', '.join(lost)} out of a {made} mixture",
                where="genome.models",
                fix="Use models without them"
                + (", or architecture: qwen." if made == "mixtral" else "."),
            )
        return made

    def recipe(self, point: Point) -> Recipe:
        """The merges of a point, and what joins them."""
        merges = [
            {"name": expert.stage, **expert.recipe(point).config}
            for expert in self._experts
            if expert.stage
        ]
        return Recipe({"merges": merges, "moe": self._joined()})

    def _joined(self) -> dict[str, Any]:
        settings, experts = self.settings, self._experts
        joined: dict[str, Any] = {
            "base_model": experts[0].model,
            "dtype": self.out_dtype,
            "experts": [one.entry for one in experts],
            "experts_per_token": settings.experts_per_token,
            "gate_mode": settings.gate_mode,
            "architecture": self._made,
        }
        if settings.shared_experts:
            joined["shared_experts"] = [
                {"source_model": experts[one.expert - 1].model, **prompts_of(one)}
                for one in settings.shared_experts
            ]
        return joined

    def point_of(self, recipe: Recipe) -> dict[str, Any] | None:
        """See the base class; experts, gates and their order are those of the space."""
        if joined_in(recipe.config) != self._joined():
            return None
        point: dict[str, Any] = {}
        merged = [expert for expert in self._experts if expert.stage]
        for expert, document in zip(merged, recipe.documents, strict=True):
            own = expert.point_of(Recipe(document))
            if own is None:
                return None
            point |= own
        return point

    def has_shares(self) -> bool:
        """See the base class."""
        return any(
            expert.space is not None and expert.space.has_shares() for expert in self._experts
        )

    def source_point(self, index: int) -> dict[str, Any] | None:
        """A mixture is no single model."""
        return None

    def average_point(self) -> dict[str, Any] | None:
        """Nor is it their average."""
        return None

    def base_point(self) -> dict[str, Any] | None:
        """Nor the base."""
        return None


def _settings_of(definition: MergeDefinition) -> MoeSettings | None:
    """The space's own settings, where they are sound."""
    try:
        return MoeSettings.model_validate(definition.space.settings if definition.space else {})
    except ValidationError:
        return None


def _unfit_expert(
    whole: MergeDefinition,
    expert: MoeExpert,
    place: tuple[str | int, ...],
    known: set[ModelName],
) -> Iterator[MisfitError]:
    """What is wrong with one expert."""
    if expert.model is not None:
        yield from _strangers([expert.model], place, known)
        return
    if "space" in expert.merge:
        yield MisfitError("an expert has no space of its own", *place, "space", fix="Remove it.")
        return
    try:
        own = definition_of(whole, expert)
    except ValidationError as error:
        for problem in problems_of(error, YamlFile("", expert.merge), MergeDefinition):
            key = problem.where.strip(": ")
            yield MisfitError(f"{key}: {problem.what}" if key else problem.what, *place)
        return
    if own.adapters == "factors":
        yield MisfitError("experts have adapters: delta, got factors", *place, fix="Remove it.")
    models = [source.model for source in own.models]
    base = [] if own.base_model in (None, whole.base_model) else [own.base_model]
    yield from _strangers([*models, *filter(None, base)], place, known)
    yield from merge_space_for(own).misfits(own)


def _strangers(
    models: Sequence[ModelName], place: tuple[str | int, ...], known: set[ModelName]
) -> Iterator[MisfitError]:
    for model in models:
        if model not in known:
            what = f"{model} is not among genome.models"
            yield MisfitError(what, *place, fix="Add it there, so that it is looked at.")
