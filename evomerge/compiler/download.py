"""Models that are on the Hub only: brought here before a run, so that its space can be compiled."""

from __future__ import annotations

from collections.abc import Callable

from evomerge.checks.search_size import unseen_models
from evomerge.compiler.compiled import Compiled
from evomerge.compiler.examine import compile_genome
from evomerge.compiler.identity import refusal
from evomerge.compiler.recorded_genome import recorded_space
from evomerge.foundations.errors import LedgerError, ModelError
from evomerge.nouns.events import Preparing
from evomerge.run.ledger.run_folder import RunFolder


def with_models_here(compiled: Compiled, hear: Callable[[Preparing], None]) -> Compiled:
    """The same, compiled again where models had to be downloaded.

    Only what is here can be looked into for parameters that change nothing. A run that has begun
    without keeps its space, and fetches the models when it merges them.

    Args:
        compiled: What is to be searched; whatever is wrong with it was told before.
        hear: Is told what is downloaded.

    Raises:
        LedgerError: the run folder holds another genome's run, or one that cannot be read.
        ModelError: a model cannot be downloaded.
        GenomeError: what was downloaded cannot be searched.
    """
    context = compiled.context
    unseen = unseen_models(context)
    if not unseen or recorded_space(context.run_dir) == compiled.merge_space.space:
        return compiled
    _refuse_another_run(compiled)
    from evomerge.merging.hub_cache import download  # heavy; most runs need none of it

    for index, model in enumerate(unseen):
        hear(Preparing(f"downloading {model.name}", index / len(unseen)))
        try:
            download(model.reference, model.key)
        except ModelError as error:
            raise ModelError.of(map(compiled.source.locate, error.problems)) from error
    return compile_genome(
        compiled.genome, compiled.source, context.permissions, context.run_dir, context.made
    )


def _refuse_another_run(compiled: Compiled) -> None:
    """What a run would refuse once everything is here, as far as the genome alone tells."""
    run_dir = compiled.context.run_dir
    refused = () if run_dir is None else refusal(RunFolder(run_dir), compiled.source.data, None)
    if refused:
        raise LedgerError.of(refused)
