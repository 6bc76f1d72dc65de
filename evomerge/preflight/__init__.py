"""What files show before anything is merged: the table of rules.

A rule is a function from a :class:`Subject` to findings; it looks only at the parts that are
there. One line here adds one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from evomerge.findings import Finding
from evomerge.preflight import (
    adapter_sums,
    adapters,
    cards,
    checkpoints,
    choices,
    genome,
    heads,
    machine,
    models,
    motion,
    search,
    splits,
    tasks,
    tensors,
    tokenizers,
)
from evomerge.preflight.fit import tokenizer_and_texts
from evomerge.preflight.subject import Subject

Rule = Callable[[Subject], Iterator[Finding]]

# Rules of models alone; the merge space is built only if they find no error.
MODEL_RULES: tuple[Rule, ...] = (
    checkpoints.checkpoint,
    checkpoints.weight_files,
    checkpoints.quantization,
    checkpoints.own_code,
    checkpoints.known_architecture,
    tensors.complete,
    models.one_folder_each,
    models.architectures,
    models.depths,
    models.own_depths,
    models.widths,
    models.tensor_names,
    models.positions,
    heads.tied_heads,
    heads.lost_heads,
    heads.untied_heads,
    tokenizers.has_tokenizer,
    tokenizers.vocabularies,
    tokenizers.padded_rows,
    tokenizers.added_tokens,
    tokenizers.tokenizer_kinds,
    tokenizers.text_ends,
    tokenizers.chat_templates,
    choices.tokenizer_is_there,
    choices.chat_template_is_known,
    adapters.adapter_files,
    adapters.adapter_bases,
    adapters.adapter_shapes,
    adapters.adapters_differ,
    adapter_sums.summed_adapters,
    cards.licences,
    cards.ancestors,
)
# Rules of everything together.
RULES: tuple[Rule, ...] = (
    tokenizer_and_texts,
    splits.splits_apart,
    splits.own_answers_hidden,
    splits.documents_once,
    splits.benchmarks_unsearched,
    genome.role_of_base,
    genome.base_among_models,
    genome.ignored_parameters,
    tasks.documents,
    tasks.worked_examples,
    tasks.directions,
    tasks.unnamed_metrics,
    tasks.groups,
    tasks.chat_template,
    search.picked,
    search.budget,
    search.idle_workers,
    search.patience,
    search.untold_losses,
    search.left_out,
    search.uncompared,
    search.idle_parameters,
    motion.swarm_in_few_directions,
    motion.swarm_in_shares,
    adapter_sums.seeds_have_their_adapters,
    machine.device_is_there,
    machine.passes,
    machine.room,
    machine.gpu_shared,
    machine.run_folder,
)
