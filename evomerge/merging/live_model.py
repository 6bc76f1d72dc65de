"""A merged model held in memory, ready to be scored."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class LiveModel:
    """One merged model in memory; the next merge overwrites it in place.

    Attributes:
        module: The model in eval mode, on its device.
        tokenizer: The tokenizer that a built recipe would carry. The same object as long as
            the vocabulary is the same, so that tokenised requests can be kept.
    """

    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
