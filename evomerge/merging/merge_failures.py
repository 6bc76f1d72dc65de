"""What mergekit, torch and transformers raise on a recipe or model they cannot use, as told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pickle import PickleError

from safetensors import SafetensorError

from evomerge.foundations.errors import LostFileError, MergeError, told
from evomerge.foundations.scratch import full_scratch

_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    PickleError,
    RuntimeError,
    TypeError,
    ValueError,
)


@contextmanager
def as_merge_errors() -> Iterator[None]:
    """Raises what happens inside as one of our errors.

    Raises:
        LostFileError: a file of a model is gone or broken.
        MergeError: the recipe cannot be merged.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise full_scratch(error) or LostFileError(
            f"a model cannot be read ({told(error)})",
            where="merge",
            fix="Put its files back; the same command then continues the run.",
        ) from error
    except _FAILURES as error:
        raise full_scratch(error) or MergeError(told(error), where="merge") from error
    except Exception as error:  # the tokenizers library has no kind of its own
        full = full_scratch(error)
        if full is None:
            raise
        raise full from error
