"""The tokenizer of a model, as transformers reads it."""

from __future__ import annotations

from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from evomerge.foundations.errors import ModelError
from evomerge.genome.model_names import ModelName
from evomerge.models.facts import ModelFacts
from evomerge.models.quiet import quiet_transformers

# Whatever transformers raises on files it cannot use.
FAILURES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    StrictDataclassError,
    TypeError,
    ValueError,
)


def load_tokenizer(
    model: ModelFacts, *, trust_remote_code: bool = False
) -> tuple[PreTrainedTokenizerBase, PreTrainedConfig]:
    """A model's tokenizer and configuration.

    Args:
        model: What its files say.
        trust_remote_code: Whether it may bring its own code.

    Raises:
        ModelError: it has no readable tokenizer.
    """
    name = ModelName.model_validate(model.like or model.reference)
    path = name.path if model.folder is None else str(model.folder)
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if model.folder is None and name.revision is not None:
        options["revision"] = name.revision
    try:
        with quiet_transformers():
            if _names_its_class(model):
                # Old keys of positions make the general class warn; no tokenizer reads them.
                kept = {k: v for k, v in model.config.items() if not k.startswith("rope_")}
                config = PreTrainedConfig.from_dict(kept)
            else:
                config = AutoConfig.from_pretrained(path, **options)
            tokenizer = AutoTokenizer.from_pretrained(path, config=config, **options)
    except FAILURES as error:
        raise ModelError(
            f"no readable tokenizer ({' '.join(str(error).split())})",
            where=model.key,
            fix="Add tokenizer files, or name `tokenizer_source`.",
        ) from error
    return tokenizer, config


def _names_its_class(model: ModelFacts) -> bool:
    """Whether the tokenizer can be read without the model's own configuration class.

    That class takes a second to import: its module loads half of torch.
    """
    settings = model.tokenizer.settings if model.tokenizer is not None else {}
    own_code = "auto_map" in model.config or "auto_map" in settings
    return "tokenizer_class" in settings and "text_config" not in model.config and not own_code
