"""Signs that a tokenizer and its model do not fit lm-eval's prompts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from transformers import PreTrainedTokenizerBase

SHOWN = 40  # characters of a text quoted in a warning


def bos_warning(tokenizer: PreTrainedTokenizerBase, config: Any) -> str:
    """One sentence if the model expects a BOS that lm-eval will not give it, else "".

    lm-eval adds what the tokenizer adds by itself. A tokenizer that defines a BOS apart from
    EOS, does not add it and does not say so on purpose (``add_bos_token: false``) is suspect.

    Args:
        tokenizer: Of the model.
        config: The model's configuration.
    """
    bos = tokenizer.bos_token_id
    if bos is None or bos == tokenizer.eos_token_id:
        return ""
    if tokenizer.init_kwargs.get("add_bos_token") is False or bos in tokenizer.encode("a"):
        return ""
    model_type = getattr(config, "model_type", "model")
    return (
        f"the {model_type} tokenizer has a BOS token {tokenizer.bos_token!r} but does not add it, "
        "and neither does lm-eval; a model trained only with one scores near zero without it. "
        "Save the tokenizer with a post-processor that adds BOS, or with add_bos_token: false."
    )


def roundtrip_warning(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> str:
    """One sentence if a text does not survive encoding and decoding, else "".

    Blanks at either end are forgiven: many tokenizers add or drop one there.

    Args:
        tokenizer: To be tried.
        texts: The tasks' own texts.
    """
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False)
        # The default cleanup removes blanks before punctuation, which lm-eval never sees.
        back = str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
        if back.strip() == text.strip():
            continue
        place = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), 0)
        start = max(0, place - SHOWN // 2)
        lost, got = text[start : start + SHOWN], back[start : start + SHOWN]
        blanks = "blanks vanish: " if "".join(back.split()) == "".join(text.split()) else ""
        return (
            f"the tokenizer does not give back the tasks' text, {blanks}{lost!r} becomes {got!r}. "
            "Check its pre-tokenizer and decoder, or choose another tokenizer."
        )
    return ""
