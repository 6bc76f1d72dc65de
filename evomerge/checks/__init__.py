"""What files show before anything is merged: the table of rules.

A rule is a function from a :class:`Subject` to findings; it looks only at the parts that are
there. One line here adds one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from evomerge.checks import adapter_shapes as adapters
from evomerge.checks import adapter_sums, cards, heads, splits
from evomerge.checks import fitting_models as models
from evomerge.checks import machine_room as machine
from evomerge.checks import named_choices as choices
from evomerge.checks import search_size as search
from evomerge.checks import single_models as checkpoints
from evomerge.checks import swarm_motion as motion
from evomerge.checks import task_rules as tasks
from evomerge.checks import tensor_names as tensors
from evomerge.checks import token_ids as tokenizers
from evomerge.checks import unread_settings as genome
from evomerge.checks.context import Subject
from evomerge.checks.fit import tokenizer_and_texts
from evomerge.foundations.findings import Finding

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
