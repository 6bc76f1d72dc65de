"""Whether the models mean the same by a token, and which token ends a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evomerge.checks.context import CheckContext
from evomerge.checks.reference_model import others_of, reference_of, some
from evomerge.foundations.counted import counted
from evomerge.foundations.findings import Finding, error, warning
from evomerge.genome.words import SIDE_BY_SIDE
from evomerge.merge_spaces import merge_space_for
from evomerge.models.completeness import weights_of
from evomerge.models.facts import ModelFacts, TokenizerFacts

_ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")
_STOPS = ("eos_token_id", "pad_token_id", "bos_token_id")


def has_tokenizer(context: CheckContext) -> Iterator[Finding]:
    """Models without tokenizer files: each is scored alone before the search."""
    for model in context.models:
        has_none = model.tokenizer is None and "tokenizer.json" not in model.broken
        if has_none and model.config:
            yield error(
                f"{model.name} has no tokenizer files", model.key, "Copy them from its base."
            )


def vocabularies(context: CheckContext) -> Iterator[Finding]:
    """Numbers of rows or ids of tokens that differ, where the genome does not choose one."""
    reference = reference_of(context)
    if reference is None or chosen_tokenizer(context):
        return
    is_mixed = merge_space_for(context.genome.genome).mixes
    for model in others_of(context):
        what = _difference(reference, model, rows_count=not is_mixed)
        if what:
            yield error(what, model.key, _choose(context, reference))
        elif _cannot_compare(reference.tokenizer, model.tokenizer):
            yield warning(
                f"the vocabulary of {model.name} cannot be compared with that of {reference.name}:"
                " they have no tokenizer.json",
                model.key,
                "Load and save their tokenizers once with transformers.",
            )


def _choose(context: CheckContext, reference: ModelFacts) -> str:
    if _one_vocabulary(context):
        return _one_tokenizer(context)
    has_base = context.genome.genome.base_model is not None
    own = "base (the base's vocabulary)" if has_base else f"{reference.name} (its vocabulary)"
    return f"Set tokenizer_source: {own} or union (all tokens)."


def _one_vocabulary(context: CheckContext) -> str:
    """Why the models have one vocabulary and none is chosen; empty where one may be."""
    return merge_space_for(context.genome.genome).one_vocabulary


def _one_tokenizer(context: CheckContext) -> str:
    why = _one_vocabulary(context)
    return f"{why[:1].upper()}{why[1:]}: take models with one tokenizer."


def chosen_tokenizer(context: CheckContext) -> str:
    """``union``, ``base`` or a model where the genome names a tokenizer; "" where it does not."""
    definition = context.genome.genome
    if definition.tokenizer is not None:
        return definition.tokenizer.source
    return definition.tokenizer_source or ""


def _difference(reference: ModelFacts, model: ModelFacts, *, rows_count: bool = True) -> str:
    """What keeps tokens of two models apart.

    Args:
        reference: One model.
        model: The other.
        rows_count: Whether their embeddings have to have equally many rows.
    """
    expected, got = rows(reference), rows(model)
    if rows_count and expected != got and expected is not None and got is not None:
        return (
            f"{model.name} has vocab_size {got}, expected {expected} as {reference.name}:"
            " their embeddings have other numbers of rows"
        )
    if reference.tokenizer is None or model.tokenizer is None:
        return ""
    ids, others = reference.tokenizer.vocabulary, model.tokenizer.vocabulary
    if ids is None or others is None or ids == others:
        return ""
    changed = [token for token in ids.keys() | others.keys() if ids.get(token) != others.get(token)]
    first = min(changed, key=lambda t: (ids.get(t, others.get(t, 0)), t))
    return (
        f"{model.name} has {counted(len(changed), 'token')} not as in {reference.name},"
        f" first {first!r}: id {others.get(first)}, expected {ids.get(first)}"
    )


def _cannot_compare(first: TokenizerFacts | None, other: TokenizerFacts | None) -> bool:
    if first is None or other is None or first.digest == other.digest:
        return False
    return first.vocabulary is None or other.vocabulary is None


def rows(model: ModelFacts) -> int | None:
    """Rows of the embeddings, by their tensor, else by the configuration."""
    for weight in weights_of(model):
        axis, tensor = weight.vocabulary_axis, model.tensors.get(weight.name)
        if axis is not None and tensor is not None and axis < len(tensor.shape):
            return tensor.shape[axis]
    configured = model.text_config.get("vocab_size")
    return configured if isinstance(configured, int) else None


def mixed_vocabularies(context: CheckContext) -> Iterator[Finding]:
    """Models that one vocabulary is chosen for, beside a mixture of them as they are."""
    reference = reference_of(context)
    if SIDE_BY_SIDE not in context.genome.baselines or reference is None:
        return
    for model in others_of(context) if chosen_tokenizer(context) else ():
        what = _difference(reference, model, rows_count=False)
        if what:
            yield error(
                f"a mixture adds probabilities token by token, and {what}",
                "baselines",
                "Remove mixture from baselines.",
            )


def padded_rows(context: CheckContext) -> Iterator[Finding]:
    """Rows beyond the last token, which are cut off where the genome names a tokenizer."""
    block = context.genome.genome.tokenizer
    reference = reference_of(context)
    if not chosen_tokenizer(context) or reference is None or reference.tokenizer is None:
        return
    n_rows, vocabulary = rows(reference), reference.tokenizer.vocabulary
    if vocabulary is None or n_rows is None or n_rows <= len(vocabulary):
        return
    if block is None or block.pad_to_multiple_of is None:
        yield warning(
            f"{reference.name} has {n_rows} rows for {len(vocabulary)} tokens; with a tokenizer"
            " named, mergekit cuts the others off, and programs that expect them fail",
            "genome.tokenizer" if block is not None else "genome.tokenizer_source",
            "Write it as tokenizer: {source: ..., pad_to_multiple_of: 64}.",
        )


def added_tokens(context: CheckContext) -> Iterator[Finding]:
    """Added tokens that share an id and not a meaning, and ids without a row."""
    reference = reference_of(context)
    is_mixed = merge_space_for(context.genome.genome).mixes
    report = error if is_mixed else warning
    expected = reference.tokenizer.added if reference and reference.tokenizer else {}
    for model in context.models:
        added = model.tokenizer.added if model.tokenizer is not None else {}
        clashes = [
            f"{index} is {text!r}, in {reference.name} {expected[index]!r}"
            for index, text in sorted(added.items())
            if reference is not None and expected.get(index, text) != text
        ]
        if clashes and not chosen_tokenizer(context):
            yield report(
                f"{model.name} has {counted(len(clashes), 'added token')} with an id of another"
                f" meaning in another model: {some(clashes)}",
                model.key,
                _one_tokenizer(context)
                if _one_vocabulary(context)
                else "Set tokenizer_source: union, which gives every token an id of its own.",
            )
        yield from _without_row(model, added)


def _without_row(model: ModelFacts, added: Mapping[int, str]) -> Iterator[Finding]:
    n_rows = rows(model)
    beyond = [text for index, text in sorted(added.items()) if n_rows and index >= n_rows]
    if beyond:
        yield warning(
            f"{model.name} has {counted(len(beyond), 'added token')} without a row in its {n_rows}"
            f" embeddings: {some(beyond)}",
            model.key,
            "Use the tokenizer that the model was trained with.",
        )


def tokenizer_kinds(context: CheckContext) -> Iterator[Finding]:
    """A slow tokenizer beside fast ones."""
    reference = reference_of(context)
    for model in context.models:
        tokenizer = model.tokenizer
        if tokenizer is None or tokenizer.is_fast or not tokenizer.is_slow:
            continue
        if model is reference or chosen_tokenizer(context):
            yield warning(
                f"{model.name} has only a slow tokenizer, which is converted when it is read and"
                " may split texts in another way",
                model.key,
                "Load and save its tokenizer once with transformers, and compare some texts.",
            )


def text_ends(context: CheckContext) -> Iterator[Finding]:
    """Special tokens and stop tokens that differ: a merge may not know when to stop."""
    reference = reference_of(context)
    for model in others_of(context):
        if reference is None:
            return
        if model.tokenizer is None:
            continue
        changed = [
            f"{role} {got!r}, in {reference.name} {expected!r}"
            for role in _ROLES
            if (got := _special(model, role)) != (expected := _special(reference, role))
        ] + [
            f"{role} {got}, in {reference.name} {expected}"
            for role in _STOPS
            if (got := _stop(model, role)) != (expected := _stop(reference, role))
        ]
        if changed:
            yield warning(
                f"{model.name} has other special tokens: {'; '.join(changed)}",
                model.key,
                f"The merge takes those of {reference.name}; check that its texts end.",
            )


def _special(model: ModelFacts, role: str) -> str | None:
    return model.tokenizer.special.get(role) if model.tokenizer is not None else None


def _stop(model: ModelFacts, role: str) -> Any:
    """An id, or several in order."""
    found = model.generation.get(role, model.text_config.get(role))
    if not isinstance(found, list):
        return found
    return found[0] if len(found) == 1 else sorted(found, key=str)


def chat_templates(context: CheckContext) -> Iterator[Finding]:
    """Several chat templates, where the genome does not choose one."""
    if context.genome.genome.chat_template is not None:
        return
    with_tokenizer = [model for model in context.models if model.tokenizer is not None]
    templates = {m.name: m.tokenizer.chat_template for m in with_tokenizer if m.tokenizer}
    found = {template for template in templates.values() if template}
    if len(found) > 1:
        yield warning(
            f"the models have {len(found)} chat templates; the merge takes that of its tokenizer",
            "genome.models",
            "Take models with one chat template."
            if merge_space_for(context.genome.genome).mixes
            else "Set chat_template to the one the tasks should use: auto, a name, a Jinja text.",
        )
    reference = reference_of(context)
    if found and reference is not None and templates.get(reference.name) == "":
        with_template = [name for name, template in templates.items() if template]
        yield warning(
            f"{some(with_template)} has a chat template, {reference.name}, whose tokenizer the"
            " merge takes, has none",
            "genome.models",
            _template_fix(context),
        )


def _template_fix(context: CheckContext) -> str:
    """How the result gets a chat template that one of its models has."""
    space = merge_space_for(context.genome.genome)
    if space.mixes:
        return "Name a model that has one first."
    if space.one_vocabulary:
        return "Set chat_template."
    return "Set chat_template, or tokenizer_source to a model that has one."
