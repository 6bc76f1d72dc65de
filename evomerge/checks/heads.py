"""Whether configuration and files agree on a head that is tied to the embeddings.

Where they do not, programs decide differently: transformers keeps a head that differs, lm-eval
ties it after loading. Scores are of what transformers loads.
"""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.checks.context import CheckContext
from evomerge.checks.reference_model import others_of, reference_of, some
from evomerge.foundations.findings import Finding, error, warning
from evomerge.genome.load import in_a_line
from evomerge.models.alike import hold_equal
from evomerge.models.completeness import weights_of
from evomerge.models.facts import AdapterFacts, FileFacts, ModelFacts
from evomerge.models.families import family_of
from evomerge.models.native import is_native, ties_as_read, ties_by_default

_KEY = "tie_word_embeddings"
_SAVED = ".modules_to_save."
_PREFIX = "base_model.model."


def tied_heads(context: CheckContext) -> Iterator[Finding]:
    """A head that is tied to the embeddings in some models and a tensor of its own in others."""
    reference = reference_of(context)
    if reference is None or (context.merge_space is not None and context.merge_space.tops):
        return  # one model alone gives the head of a stack
    tied = _has_own_head(reference)
    for model in others_of(context):
        other = _has_own_head(model)
        if None in (tied, other) or tied == other:
            continue
        first, second = (reference, model) if tied else (model, reference)
        yield warning(
            f"the head of {second.name} is tied to its embeddings, {first.name} has one of its own;"
            " mergekit takes the embeddings for the missing head",
            model.key,
        )


def _has_own_head(model: ModelFacts) -> bool | None:
    """None where the family is not known."""
    family = family_of(model) if model.tensors else None
    heads = [w for w in family.after if w.vocabulary_axis is not None] if family else []
    return any(weight.name in model.tensors for weight in heads) if heads else None


def lost_heads(context: CheckContext) -> Iterator[Finding]:
    """A head that the configuration promises and the files do not hold."""
    for model in context.models:
        is_promised = _says_whether(model) and not is_tied(model)
        if is_promised and _has_own_head(model) is False and weights_of(model):
            yield warning(
                f"{model.name} has no tensor for its head although tie_word_embeddings is false;"
                " mergekit takes the embeddings",
                model.key,
                "Set tie_word_embeddings: true in its config.json if its head is tied.",
            )


def untied_heads(context: CheckContext) -> Iterator[Finding]:
    """Heads that differ from the embeddings although a configuration ties them."""
    reference = reference_of(context)
    for model in context.models:
        where = _other_head(model)
        if not where:
            continue
        if is_tied(model):
            yield warning(
                f"{where}, which config.json ties to the embeddings: transformers, and so every"
                " score here, takes the head, lm-eval by itself the embeddings",
                model.key,
                "Set tie_word_embeddings: false in its config.json if the head was trained on its"
                " own, else save the model tied.",
            )
        elif reference is not None and is_tied(reference):
            yield warning(
                f"{where}, and config.json of {reference.name}, which merges take, ties it to the"
                " embeddings: transformers, and so every score here, takes the merged head, lm-eval"
                " by itself the embeddings",
                model.key,
                f"Set tie_word_embeddings: false in config.json of {reference.name}, so that all"
                " programs take the head.",
            )


def headless_stacks(context: CheckContext) -> Iterator[Finding]:
    """Stacks whose last layer is of a model without a head, under a configuration with one."""
    reference = reference_of(context)
    if context.merge_space is None or reference is None or is_tied(reference):
        return
    tops = {name.text for name in context.merge_space.tops}
    for model in context.models:
        if model.name in tops and _has_own_head(model) is False:
            yield error(
                f"mergekit writes no head where the last layer is of {model.name}, which has none"
                f" of its own, and config.json of {reference.name}, which merges take, ties none"
                " to the embeddings: transformers would draw one at random",
                model.key,
                f"Set base_model: {_written(model)}, whose configuration ties it."
                if is_tied(model)
                else f"Save {model.name} with its head.",
            )


def _written(model: ModelFacts) -> str:
    """A model as a genome's file names it."""
    if isinstance(model.reference, str):
        return model.reference
    return in_a_line(model.reference)


def is_tied(model: ModelFacts) -> bool:
    """Whether its configuration, or the default of its type, ties the head to the embeddings."""
    outside, inside = (one.get(_KEY) for one in (model.config, model.text_config))
    has_parts = isinstance(model.config.get("text_config"), dict)
    model_type = model.config.get("model_type")
    if isinstance(model_type, str) and is_native(model_type):
        if has_parts:
            as_read = ties_as_read(model.config)
            return bool(outside or inside) if as_read is None else as_read
        if outside is None:
            return ties_by_default(model_type)
    return bool(outside or inside)


def _says_whether(model: ModelFacts) -> bool:
    """Whether its configuration says of the head whether it is tied."""
    return any(one.get(_KEY) is not None for one in (model.config, model.text_config))


def _other_head(model: ModelFacts) -> str:
    """Which file holds a head that differs from the embeddings; "" where none is known to."""
    if not weights_of(model):
        return ""
    pairs = list(_pairs(model))
    if model.adapter is not None:
        saved = _saved(model.adapter)
        for head, embeddings in pairs:
            if head in saved or embeddings in saved:
                return _in_adapter(model.adapter, saved.get(head), saved.get(embeddings))
    for head, embeddings in pairs:
        if head in model.tensors and _differ(model, head, embeddings):
            return f"{model.tensors[head].file} of {model.name} has a head of its own ({head})"
    return ""


def _pairs(model: ModelFacts) -> Iterator[tuple[str, str]]:
    """Head and embeddings."""
    family = family_of(model)
    if family is not None:
        heads = [w.name for w in family.after if w.vocabulary_axis is not None]
        embeddings = [w.name for w in family.before if w.vocabulary_axis is not None]
        yield from zip(heads, embeddings, strict=False)


def _saved(adapter: AdapterFacts) -> dict[str, str]:
    """The tensors that an adapter replaces as a whole -> their names in it."""
    replaced = adapter.config.get("modules_to_save")
    if not isinstance(replaced, list) or adapter.config.get("ensure_weight_tying"):
        return {}
    found: dict[str, str] = {}
    for name in adapter.tensors:
        inner = name.removeprefix(_PREFIX).replace(_SAVED, ".")
        if inner.rpartition(".")[0].rpartition(".")[2] in replaced:
            found.setdefault(inner, name)
    return found


def _in_adapter(adapter: AdapterFacts, head: str | None, embeddings: str | None) -> str:
    if head is not None and embeddings is not None and not _differ(adapter, head, embeddings):
        return ""
    trained = [name for name in (embeddings, head) if name is not None]
    inner = [name.replace(_SAVED, ".") for name in trained]
    modules = [name.rpartition(".")[0].rpartition(".")[2] for name in inner]
    file = adapter.tensors[trained[0]].file
    return f"{file} of {adapter.name} makes a head of its own (it trains {some(modules)})"


def _differ(files: FileFacts, head: str, embeddings: str) -> bool:
    """Whether both are there, can be looked into, and are not equal."""
    if files.folder is None or not {head, embeddings} <= files.tensors.keys():
        return False
    return not hold_equal(files, head, embeddings)
