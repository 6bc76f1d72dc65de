"""What goes wrong in a merge, whoever raises it, as an error that says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pickle import PickleError

from safetensors import SafetensorError

from evomerge.foundations.errors import LostFileError, MergeError, told
from evomerge.foundations.scratch import full_scratch

# Whatever mergekit, torch and transformers raise on a recipe or model they cannot use.
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
def failures_told() -> Iterator[None]:
    """Whatever mergekit, torch and transformers raise within, as an error of a merge.

    Raises:
        LostFileError: a model's file is gone or broken.
        MergeError: mergekit cannot merge it.
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
