"""Where every tensor of the models went in the winner of a run."""

from __future__ import annotations

from evomerge.nouns.section import Section
from evomerge.recipe.file import stands_for_recipe
from evomerge.recipe.own_names import located, names_sum
from evomerge.report.unmerged_tensors import accounts_here
from evomerge.run.recorded_run import RecordedRun

_HEAD = ("model", "merged", "carried over", "left out")


def tensors_section(run: RecordedRun) -> Section | None:
    """One row per model or adapter, those whose files are not here among them."""
    if not run.winners:
        return None
    candidate = run.winners[0].candidate
    recipe = located(candidate.recipe, run.ledger.folder.path)
    names = [name for name in recipe.models if not names_sum(name)]
    block = run.genome.genome
    given = (*(source.model for source in block.models), block.base_model)
    of_genome = [name for name in given if name and not (name.is_stage or stands_for_recipe(name))]
    if any(name.path in {one.path for one in of_genome} for name in recipe.models):
        names += of_genome  # what was trained of them has all of them in it
    found = accounts_here(recipe, names)
    if not found.known and not found.unknown:
        return None
    return Section(
        "tensors",
        f"tensors of the models in trial {candidate.trial_id}",
        _HEAD,
        (
            *((account.model, *account.numbers) for account in found.known),
            *((name, "not counted", "", "") for name in found.unknown),
        ),
        tuple(found.sentences),
        {
            "trial": candidate.trial_id,
            "models": [account.data for account in found.known],
            "not_counted": dict(found.unknown),
        },
    )
