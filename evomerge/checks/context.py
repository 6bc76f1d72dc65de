"""What the rules of a preflight look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evomerge.foundations.permissions import Permissions
from evomerge.genome.schema import Genome

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

    from evomerge.evaluators.base import Evaluator
    from evomerge.merge_spaces.base import MergeSpace
    from evomerge.models.facts import ModelFacts
    from evomerge.nouns.trial import Candidate
    from evomerge.optimizers.base import Optimizer
    from evomerge.optimizers.picked import AutoChoice
    from evomerge.recipe.kept_stages import Made


@dataclass(frozen=True)
class CheckContext:
    """A genome and everything its files say; parts that could not be read are missing.

    Attributes:
        genome: What is to be searched.
        permissions: What the user allows.
        models: The models that could be read, in the genome's order, the base last.
        merge_space: What varies; None where models or genome have errors.
        optimizer: Who will propose; None likewise.
        auto: What `optimizer: auto` stands for here; None where the genome names an optimizer.
        seeds: Merges that are tried before the search.
        evaluators: Split -> its evaluator, prepared; splits with errors are missing.
        tokenizer: What the merged models would read texts with; None where unreadable.
        config: The configuration beside it.
        made: Folders of models that earlier stages made, and how.
        run_dir: Where the run would be kept; None where not known.
        device: Where the live model would be.
        dtype: Of its forward passes; None: that of the models.
    """

    genome: Genome
    permissions: Permissions = field(default_factory=Permissions)
    models: Sequence[ModelFacts] = ()
    merge_space: MergeSpace | None = None
    optimizer: Optimizer | None = None
    auto: AutoChoice | None = None
    seeds: tuple[Candidate, ...] = ()
    evaluators: Mapping[str, Evaluator] = field(default_factory=dict)
    tokenizer: PreTrainedTokenizerBase | None = None
    config: PreTrainedConfig | None = None
    made: Made = field(default_factory=dict)
    run_dir: Path | None = None
    device: str = "cpu"
    dtype: str | None = None
