"""How a genome was understood: a base that the method does not read, or that is a model too."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.findings import Finding, note
from evomerge.methods import Base, method_named
from evomerge.preflight.subject import Subject

_BASE = "genome.base_model"


def role_of_base(subject: Subject) -> Iterator[Finding]:
    """A base where the method has no use for one."""
    definition = subject.genome.genome
    base, method = definition.base_model, method_named(definition.merge_method)
    if base is None or method.base is not Base.IGNORED:
        return
    if base not in [source.model for source in definition.models]:
        yield note(
            f"{method.name} measures from no base; {base} is scored as a baseline and gives "
            "configuration and tokenizer, and no tensors",
            _BASE,
        )


def base_among_models(subject: Subject) -> Iterator[Finding]:
    """A base that is listed as a model too."""
    definition = subject.genome.genome
    base, method = definition.base_model, method_named(definition.merge_method)
    if base is None or method.base is Base.IGNORED:
        return
    for index, source in enumerate(definition.models):
        if source.model == base:
            yield note(
                f"{base} is the base too; its task vector is zero, so it gets no parameters",
                f"genome.models[{index}]",
            )
