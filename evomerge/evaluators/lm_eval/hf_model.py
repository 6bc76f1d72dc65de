"""lm-eval's own Hugging Face model, with as many rows in a pass as fit.

How it computes is lm-eval's throughout; only the number of rows is chosen here, anew for each
kind of request, as lm-eval takes one number for all of them or tries out what fits.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import lm_eval.models.huggingface as huggingface
import torch
from lm_eval.api.instance import Instance

from evomerge.evaluators.built_model import BuiltModel
from evomerge.evaluators.lm_eval.isolation import inside_lm_eval
from evomerge.evaluators.lm_eval.language_model import DEFAULT_MAX_GEN_TOKS
from evomerge.evaluators.plain_mixture import PlainMixture, image_door_for, module_of
from evomerge.foundations.errors import RunError, why
from evomerge.models.own_heads import keep_own_heads
from evomerge.models.quiet import quiet_transformers

# Bytes of logits in one pass under batch_size "auto": lm-eval keeps those of every position, and
# their logarithms in float32 beside them.
MOST_LOGITS = {"cpu": 1 << 30, "mps": 1 << 30}
MOST_LOGITS_ELSEWHERE = 1 << 32
BYTES_OF_A_LOGIT = 8
MOST_ROWS = 64
# Settings of a generation under which padding, or another row, has a say in a row.
READ_ALONE = ("num_beams", "max_length")
# Whatever lm-eval, transformers and a task's own functions raise on a model they cannot score.
_FAILURES = (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError)


class ReferenceModel(huggingface.HFLM):  # type: ignore[misc]  # lm_eval ships no types
    """Chooses the rows of a pass by the longest request, as a run does.

    Args:
        batch_size: Rows of a pass, or ``"auto"``.
        arguments: lm-eval's.

    Attributes:
        tokens_per_pass: At most, under ``"auto"``; those of its longest row, until it is set.
    """

    tokens_per_pass = 0

    def __init__(self, *, batch_size: int | Literal["auto"], **arguments: Any) -> None:
        super().__init__(batch_size=1, **arguments)
        self._wanted = batch_size
        self._divisor = 1

    def _get_backend(self, config: Any, *arguments: Any, **others: Any) -> None:
        """See lm-eval, which would load a model that sees as one that does not."""
        self.AUTO_MODEL_CLASS = image_door_for(config)
        super()._get_backend(config, *arguments, **others)

    def _create_model(self, *arguments: Any, **others: Any) -> None:
        """See lm-eval, which then ties what transformers has loaded apart."""
        super()._create_model(*arguments, **others)
        keep_own_heads(self._model)

    def answer_for(self, task: str) -> None:
        """Has a mixture answer with the weights of a task from now on."""
        if isinstance(self.model, PlainMixture):
            self.model.answer_for(task)

    def halve(self) -> bool:
        """Halves the passes from now on; whether there was anything to halve."""
        self._divisor *= 2
        return bool(self.batch_size > 1)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """See lm-eval."""
        lengths = [len(self.tok_encode(request.args[0])) for request in requests]
        settings = [request.args[1] for request in requests]
        new = max(int(one.get("max_gen_toks", DEFAULT_MAX_GEN_TOKS)) for one in settings)
        is_alone = any(name in one for one in settings for name in READ_ALONE)
        self._set_rows(1 if is_alone else self._rows(max(lengths) + new))
        texts: list[str] = super().generate_until(requests, disable_tqdm)
        return texts

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """See lm-eval; all windows come to :meth:`_loglikelihood_tokens`, which splits them."""
        self._set_rows(sys.maxsize)
        found: list[float] = super().loglikelihood_rolling(requests, disable_tqdm)
        return found

    def _loglikelihood_tokens(
        self, requests: Sequence[Any], *arguments: Any, **others: Any
    ) -> list[tuple[float, bool]]:
        longest = max((len(context) + len(own) for _, context, own in requests), default=1)
        most = MOST_LOGITS.get(self.device.type, MOST_LOGITS_ELSEWHERE)
        self._set_rows(self._rows(longest, most // (BYTES_OF_A_LOGIT * max(self.vocab_size, 1))))
        answers = super()._loglikelihood_tokens(requests, *arguments, **others)
        found: list[tuple[float, bool]] = answers
        return found

    def _rows(self, longest: int, most_tokens: int | None = None) -> int:
        """Rows of a pass whose longest row has so many tokens."""
        if self._wanted != "auto":
            return self._wanted // self._divisor
        tokens = self.tokens_per_pass
        tokens = tokens if most_tokens is None else min(tokens, most_tokens)
        longest = min(longest, int(self.max_length))
        return min(tokens // longest // self._divisor, MOST_ROWS)

    def _set_rows(self, rows: int) -> None:
        self.batch_size_per_gpu = max(rows, 1)


def open_model(built: BuiltModel) -> ReferenceModel:
    """lm-eval's own Hugging Face model of a folder, with the settings of a run.

    Raises:
        RunError: the folder cannot be loaded.
    """
    settings, template = built.settings, built.settings.apply_chat_template
    torch.set_num_threads(built.threads)
    with inside_lm_eval(), quiet_transformers(), told_as("cannot be loaded", built.folder):
        return ReferenceModel(
            pretrained=str(built.folder) if built.mixture is None else module_of(built),
            tokenizer=None if built.mixture is None else str(built.folder),
            device=built.device,
            dtype=settings.dtype or "auto",
            batch_size=settings.batch_size,
            trust_remote_code=built.trust_remote_code,
            softmax_dtype="float32",  # as a run has it
            logits_cache=False,  # it misreads two splits of one text
            chat_template_args={"chat_template": template} if isinstance(template, str) else None,
        )


@contextmanager
def told_as(what: str, where: object) -> Iterator[None]:
    """Whatever lm-eval raises inside is a RunError that says what it could not do.

    Args:
        what: Of the thing, e.g. ``"cannot be loaded"``.
        where: The thing.
    """
    try:
        yield
    except (*_FAILURES, MemoryError, SystemExit) as error:
        raise RunError(f"{what} by lm-eval ({why(error)})", where=str(where)) from error
