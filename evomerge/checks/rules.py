"""What files show before anything is merged: the table of rules.

A rule is a function from a :class:`CheckContext` to findings; it looks only at the parts that are
there. One line here adds one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from itertools import chain
from typing import cast

from evomerge.checks.context import CheckContext
from evomerge.foundations.findings import Finding
from evomerge.merge_spaces import merge_space_for

Rule = Callable[[CheckContext], Iterator[Finding]]


class Rules:
    """Rules in the order in which they are told, imported when they are asked for.

    Args:
        targets: ``"module:function"`` of this package.
    """

    def __init__(self, *targets: str) -> None:
        self._targets = targets

    def __iter__(self) -> Iterator[Rule]:
        for target in self._targets:
            module, _, name = target.partition(":")
            yield cast(Rule, getattr(import_module(f"evomerge.checks.{module}"), name))


# Rules of models alone; the merge space is built only if they find no error.
MODEL_RULES = Rules(
    "single_models:checkpoint",
    "single_models:weight_files",
    "single_models:quantization",
    "single_models:own_code",
    "single_models:known_architecture",
    "tensor_names:complete",
    "fitting_models:one_folder_each",
    "fitting_models:architectures",
    "fitting_models:depths",
    "fitting_models:parts_beside",
    "fitting_models:own_depths",
    "fitting_models:widths",
    "fitting_models:tensor_names",
    "fitting_models:positions",
    "heads:tied_heads",
    "heads:lost_heads",
    "heads:untied_heads",
    "token_ids:has_tokenizer",
    "token_ids:vocabularies",
    "token_ids:mixed_vocabularies",
    "token_ids:padded_rows",
    "token_ids:added_tokens",
    "token_ids:tokenizer_kinds",
    "token_ids:text_ends",
    "token_ids:chat_templates",
    "named_choices:tokenizer_is_there",
    "named_choices:chat_template_is_known",
    "adapter_shapes:adapter_files",
    "adapter_shapes:adapter_bases",
    "adapter_shapes:adapter_shapes",
    "adapter_shapes:adapters_differ",
    "adapter_sums:summed_adapters",
    "adapter_output:adapter_output",
    "cards:licences",
    "cards:ancestors",
)
# Rules of models that answer as they are: mergekit need know nothing of them.
WHOLE_RULES = Rules(
    "single_models:checkpoint",
    "single_models:weight_files",
    "single_models:quantization",
    "single_models:own_code",
    "fitting_models:one_folder_each",
    "token_ids:has_tokenizer",
    "token_ids:vocabularies",
    "token_ids:added_tokens",
    "token_ids:tokenizer_kinds",
    "token_ids:text_ends",
    "token_ids:chat_templates",
    "adapter_shapes:adapter_files",
    "adapter_shapes:adapter_bases",
    "adapter_shapes:adapter_shapes",
    "adapter_output:adapter_output",
    "cards:licences",
    "cards:ancestors",
)
# Rules of those among them that have an adapter, which mergekit folds.
FOLDED_RULES = Rules("single_models:known_architecture", "tensor_names:complete")
# Rules of everything together.
RULES = Rules(
    "fit:tokenizer_and_texts",
    "splits:splits_apart",
    "splits:own_answers_hidden",
    "splits:documents_once",
    "splits:benchmarks_unsearched",
    "unread_settings:role_of_base",
    "unread_settings:base_among_models",
    "unread_settings:ignored_parameters",
    "unknown_methods:unknown_method",
    "unknown_methods:refused_merges",
    "refused_tokens:refused_tokens",
    "unread_settings:unknown_trackers",
    "unread_settings:executor",
    "task_rules:documents",
    "task_rules:told_by_kinds",
    "task_rules:worked_examples",
    "task_rules:directions",
    "task_rules:lessons",
    "task_rules:folders_of_mixtures",
    "task_rules:unnamed_metrics",
    "task_rules:groups",
    "task_rules:chat_template",
    "search_size:picked",
    "search_size:budget",
    "search_size:idle_workers",
    "search_size:patience",
    "optimizer_notes:untold_losses",
    "search_size:left_out",
    "search_size:uncompared",
    "search_size:idle_parameters",
    "optimizer_notes:in_this_space",
    "adapter_sums:seeds_have_their_adapters",
    "heads:headless_stacks",
    "tensors_accounted:accounted",
    "kept_rows:kept_rows",
    "tensors_accounted:left_files",
    "machine_room:device_is_there",
    "machine_room:passes",
    "machine_room:memory_and_disk",
    "machine_room:gpu_shared",
    "machine_room:run_folder",
)


def of_models(context: CheckContext) -> Iterator[Finding]:
    """What files show of the models of a genome, by themselves and side by side."""
    if not merge_space_for(context.genome.genome).mixes:
        yield from _found(MODEL_RULES, context)
        return
    yield from _found(WHOLE_RULES, context)
    folded = [model for model in context.models if model.adapter is not None]
    yield from _found(FOLDED_RULES, replace(context, models=folded))


def _found(rules: Rules, context: CheckContext) -> Iterator[Finding]:
    return chain.from_iterable(rule(context) for rule in rules)
