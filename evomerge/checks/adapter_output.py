"""Whether the winner of a search can be written as the adapter that the genome asks for."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.checks.context import CheckContext
from evomerge.foundations.findings import Finding, error, note
from evomerge.genome.methods import METHODS


def adapter_output(context: CheckContext) -> Iterator[Finding]:
    """Winners that are no sum of LoRA adapters of one base are approximated by one, if at all."""
    genome = context.genome
    if genome.output != "adapter":
        return
    block, space = genome.genome, context.merge_space
    if space is not None and space.unadapted:
        what = f"no winner of space {space.name} is an adapter: {space.unadapted}"
        yield error(what, "output", "Remove it: the winner is exported as a recipe.")
        return
    names = [source.model for source in block.models]
    method = block.merge_method or (space.method.name if space is not None else "")
    why = ""
    if not all(name.lora for name in names):
        why = "not all models are LoRA adapters of a base"
    elif len({(name.path, name.revision) for name in names}) > 1:
        why = "the adapters are of several bases"
    elif method in METHODS and not METHODS[method].is_linear:
        why = f"{method} makes no sum of adapters"
    if why:
        yield note(
            f"{why}: the winner is written as the nearest adapter of a rank, with its error",
            "output",
            "Give that rank to `evomerge export --rank`, and to --base the base where the merge "
            "names none.",
        )
