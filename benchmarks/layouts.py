"""Shared tokens packed as trees under a mask, or read from a kept prefix: which is faster here?

    python benchmarks/layouts.py [--device cpu] [--documents 25] [--repeats 3] [--threads 2]
                                 [--batch auto]

A run lays its requests out by the rule of `trees.cut`, which depends on the requests alone: were
it measured instead, two runs of one genome could choose differently, and an answer whose options
lie within rounding of each other would flip. This table is the evidence for the rule on a device:

- packed: every pass is filled with trees, what they share stands in each of them;
- prefix: what rows share is read once and kept, each row continues it alone;
- rule: trees of up to so many tokens, on a kept prefix where that is long and many continue it,
  or where it is so long that reading it without a mask pays on this device.

The model and its tasks are those of `scoring.py`; layouts take turns, the best of several counts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import scoring
import torch
from scoring import Measured, difference, measure, model, requests_of, tokenizer, write_tasks

from evomerge.evaluators.lm_eval.language_model import LiveLanguageModel
from evomerge.inference import ENGINES
from evomerge.inference.transformers import trees

ENDLESS = 1 << 40
PACKED = {"TREE_TOKENS": ENDLESS, "STEM_TOKENS": ENDLESS, "ALONE_TOKENS": {}}
RULE = {name: getattr(trees, name) for name in (*PACKED, "TOKENS_AFTER_STEM")}
# From how many tokens on something shared is kept: the examples, not also each document's context,
# which would be read with the examples before it.
KEPT_FROM = {"shared few-shot": 128, "own few-shot": 32, "zero-shot": 32}


class LaidOut:
    """A language model with constants of its own for the rule.

    Args:
        module: What answers.
        batch: Its batch size.
        constants: Of `trees`.
    """

    def __init__(self, module: Any, batch: Any, constants: dict[str, Any]) -> None:
        self._constants = constants
        self._model = LiveLanguageModel(ENGINES["transformers"](tokenizer(), batch))
        self._model.bind(module)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[Any]:
        """The answers; a layout is made in the first call and kept."""
        with patch.multiple(trees, **self._constants):
            return self._model.loglikelihood(requests, disable_tqdm)


def layouts_of(module: Any, batch: Any, name: str) -> dict[str, LaidOut]:
    """One model for each layout of a workload."""
    prefix = {**RULE, "TREE_TOKENS": 0, "TOKENS_AFTER_STEM": 0, "STEM_TOKENS": KEPT_FROM[name]}
    found = {"packed": PACKED, "prefix": prefix, "rule": RULE}
    return {label: LaidOut(module, batch, constants) for label, constants in found.items()}


def line(name: str, found: dict[str, Measured]) -> str:
    """One row of the table."""
    cells = "".join(f"{one.seconds:10.2f} {one.n_tokens:8}" for one in found.values())
    best = min(found["packed"].seconds, found["prefix"].seconds)
    apart = difference(found["packed"].answers, found["prefix"].answers)
    return f"{name:18}{cells} {found['rule'].seconds / best:12.2f}  {apart}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--documents", default=25, type=int)
    parser.add_argument("--repeats", default=3, type=int)
    parser.add_argument("--threads", default=2, type=int)
    parser.add_argument("--batch", default="auto", type=lambda s: s if s == "auto" else int(s))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.device != "cpu":
        scoring.seconds = time.perf_counter  # the processor waits for the device
    module = model().to(options.device)
    print(f"{options.device}, {options.threads} threads, batch_size {options.batch}")
    print(f"{'':18}{'packed s':>10} {'tokens':>8}{'prefix s':>10} {'tokens':>8}", end="")
    print(f"{'rule s':>10} {'tokens':>8} {'rule / best':>12}  packed and prefix")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_tasks(folder, options.documents, 1)
        for name in KEPT_FROM:
            requests = requests_of(folder, name)
            ways = layouts_of(module, options.batch, name)
            print(line(name, measure(module, ways, requests, options.repeats)), flush=True)


if __name__ == "__main__":
    main()
