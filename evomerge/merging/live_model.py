"""A merged model held in memory, ready to be scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class LiveModel:
    """One merged model in memory; the next merge overwrites it in place.

    Attributes:
        module: The model in eval mode, on its device.
        tokenizer: The tokenizer that a built recipe would carry. The same object as long as
            the vocabulary is the same, so that tokenised requests can be kept.
        identity: What no other model has, where that is known without a look at its tensors;
            empty where it is not.
        of_tasks: Task, as the genome names it -> the model that answers it, where it is another.
    """

    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    identity: str = ""
    of_tasks: Mapping[str, PreTrainedModel] = field(default_factory=dict)

    def shared_out(self, tasks: Sequence[str]) -> list[tuple[PreTrainedModel, list[int]]]:
        """Each model that answers, and which of some tasks: all by one where none has its own."""
        found: dict[int, tuple[PreTrainedModel, list[int]]] = {}
        for place, task in enumerate(tasks):
            module = self.of_tasks.get(task, self.module)
            found.setdefault(id(module), (module, []))[1].append(place)
        return list(found.values())
