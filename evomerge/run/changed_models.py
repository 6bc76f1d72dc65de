"""Models whose files are others than when a run began, so that its scores are of other weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge.foundations.errors import EvomergeError
from evomerge.foundations.findings import Finding, warning
from evomerge.foundations.reading import is_folder, is_there
from evomerge.genome.model_names import ModelName
from evomerge.models.fingerprint import fingerprint
from evomerge.run.chosen import ChosenTrial
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.ledger.shape import models_in
from evomerge.run.recorded_run import earlier_stages, load_run


def is_changed(recorded: Mapping[str, str], reference: Any) -> bool:
    """Whether the files of a model are others than line 1 of a ledger says.

    Args:
        recorded: ``models`` of that line.
        reference: The model as recipes name it.

    Raises:
        ModelError: what stands in a file's place is none.
        UnreadableError: a file cannot be read.
        OSError: the Hub cannot be reached.
        ValueError: the Hub does not say which commit it is.
    """
    now = fingerprint(reference)
    return recorded.get(ModelName.model_validate(reference).key, now) != now


def surely_changed(recorded: Mapping[str, str], model: ModelName) -> bool:
    """The same; not where nothing is recorded of it, or it cannot be read: others tell that."""
    try:
        return model.key in recorded and is_changed(recorded, model.in_recipe)
    except (EvomergeError, OSError, ValueError):
        return False


def changed(name: str, purpose: str) -> Finding:
    """What is said of a model that has changed.

    Args:
        name: Of the model.
        purpose: What the old files are good for, after "Put the old files back to".
    """
    return warning(
        "the model's files are others than when the run began, so answers will differ",
        name,
        f"Put the old files back to {purpose}.",
    )


def changed_of(trials: Sequence[ChosenTrial], *, asks_hub: bool = True) -> list[tuple[str, ...]]:
    """For each trial its models that have changed since its run, or an earlier stage, began.

    Nothing is known of a best.yml apart from its run, nor of models that cannot be read: whoever
    merges them says what is wrong.

    Args:
        trials: What is to be scored, built or written.
        asks_hub: Whether models count that are no folders here.
    """
    recorded = {one.run_dir: _recorded(one.run_dir) for one in trials}
    seen: dict[ModelName, bool] = {}

    def changed_in(one: ChosenTrial) -> Iterator[str]:
        for model in one.recipe.named:
            if model not in seen:
                is_asked = asks_hub or all(map(is_folder, model.places))
                seen[model] = is_asked and surely_changed(recorded[one.run_dir], model)
            if seen[model]:
                yield model.text

    return [tuple(changed_in(one)) for one in trials]


def _recorded(run_dir: Path | None) -> dict[str, str]:
    if run_dir is None or not is_there(RunFolder(run_dir).ledger):
        return {}
    run = load_run(run_dir)
    runs = [*earlier_stages(run), run]
    return {key: value for one in runs for key, value in models_in(one.ledger.header).items()}
