"""The engine that runs transformers' own model, in place, with its passes shared between rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import torch

from evomerge.foundations.deadline import Deadline
from evomerge.inference.base import (
    Continuation,
    Engine,
    LogLikelihood,
    PlacedRow,
    Prompt,
    Written,
)
from evomerge.inference.transformers.generation import Writer, group, is_plain
from evomerge.inference.transformers.greedy import SlotMemory
from evomerge.inference.transformers.likelihoods import (
    ScoringPass,
    Stage,
    answers_from,
    largest,
    n_read,
    rows_of,
    scoring_pass,
)
from evomerge.inference.transformers.member_table import MemberTable, table_of
from evomerge.inference.transformers.pass_budget import PassBudget, PassBudgets, tokens_on
from evomerge.inference.transformers.sharing import may_share
from evomerge.inference.transformers.tree_passes import block_of, read_stem, row_logits, tree_logits
from evomerge.inference.transformers.trees import Row, alone_on, lay_out, lay_out_apart
from evomerge.merging.mixed_model import MixedModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PLACES_PER_PASS = 1024  # where whole vocabularies are read, as memory for these is dear


class TransformersEngine(Engine):
    """See :class:`Engine`.

    Log-softmax runs in float32 whatever the model's dtype. With ``"auto"`` the size of a pass is
    found once for each kind of request, see :class:`PassBudgets`.

    Attributes:
        budgets: How much one forward pass reads.
        slots: Where generations keep what they have read.
        shares: Whether the bound model computes shared tokens once.
    """

    module: PreTrainedModel
    shares: bool

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int | Literal["auto"] = "auto",
        exactness: Literal["fast", "reference"] = "fast",
    ) -> None:
        super().__init__(tokenizer, batch_size, exactness)
        self.budgets = PassBudgets(batch_size)
        self.slots = SlotMemory()

    @classmethod
    def tokens_per_pass(
        cls, device: str, batch_size: int | Literal["auto"] = "auto", longest: int = 0
    ) -> int:
        """See :meth:`Engine.tokens_per_pass`."""
        if batch_size == "auto":
            return max(tokens_on(device.partition(":")[0]), longest)
        return batch_size * longest

    def bind(
        self, module: PreTrainedModel, deadline: Deadline | None = None, batch_divisor: int = 1
    ) -> None:
        """See :meth:`Engine.bind`."""
        super().bind(module, deadline, batch_divisor)
        self.budgets.bind(module.device, batch_divisor)
        self.shares = self.exactness == "fast" and may_share(module)

    def log_likelihoods(
        self, asked: Sequence[Continuation], kind: str = "continuations"
    ) -> list[LogLikelihood]:
        """See :meth:`Engine.log_likelihoods`; the members of a mixture are read once."""
        if isinstance(self.module, MixedModel) and self.exactness == "fast":
            table = self._table(self.module, asked, kind)
            if table.has(self.module.mean):
                return table.answers(self.module.weights, self.module.mean)
        answers: list[LogLikelihood] = [(0.0, False)] * len(asked)
        for scored, logits in self._scored(asked, kind):
            for position, answer in answers_from(logits, scored):
                answers[position] = answer
        return answers

    def _table(self, mixture: MixedModel, asked: Sequence[Continuation], kind: str) -> MemberTable:
        """What the members say of some continuations; made once, while they are the same."""

        def read() -> MemberTable:
            with mixture.apart():
                passes = self._scored(asked, f"{kind} of members")
                return table_of(passes, len(mixture.members), mixture.mean)

        key = ("members", kind, self.max_length, mixture.mean)
        table: MemberTable = self._once(key, [mixture.token, *asked], read)
        return table

    def _scored(
        self, asked: Sequence[Continuation], kind: str
    ) -> Iterator[tuple[ScoringPass, torch.Tensor]]:
        """Every pass over some continuations, with the logits at its places."""
        longest = self._once(
            ("longest", kind, self.max_length), asked, lambda: self._longest(asked)
        )

        def stages() -> list[Stage]:
            budget = self.budgets.of(kind, longest)
            plan = (kind, self.max_length, self.shares, self.module.device.type, budget)
            planned: list[Stage] = self._once(plan, asked, lambda: self._planned(asked, budget))
            return planned

        def attempt() -> None:
            for scored, logits in self._run(largest(stages())):
                list(answers_from(logits.flatten(0, -2), scored))

        self.budgets.find(kind, longest, attempt)
        yield from self._run(stages())

    def generate(self, asked: Sequence[Prompt]) -> list[Written]:
        """See :meth:`Engine.generate`."""
        plain = is_plain(self.module)
        key = ("texts", plain)
        groups = self._once(key, asked, lambda: group(self.tokenizer, asked, plain=plain))
        writer = Writer(
            self.module,
            self.tokenizer,
            self.deadline,
            self.budgets,
            self.slots,
            self.shares,
            self.eot_token_id,
        )
        return writer.write(groups)

    @torch.no_grad()
    def next_token_log_probabilities(self, asked: Sequence[Sequence[int]]) -> torch.Tensor:
        """See :meth:`Engine.next_token_log_probabilities`."""
        rows = [tuple(tokens[-self.max_length :]) for tokens in asked]
        found: dict[Row, torch.Tensor] = {}
        [(_, trees)] = lay_out_apart(dict.fromkeys(rows, 1))
        budget = self.budgets.of("next tokens", max(map(len, trees), default=1))
        for batch in budget.split_by_length(trees):
            self.deadline.check()
            logits = row_logits(self.module, block_of(batch, ()))
            last = torch.log_softmax(logits.float(), dim=-1)
            found |= zip((row for tree in batch for row in tree.places), last, strict=True)
        return torch.stack([found[row] for row in rows])

    @torch.no_grad()
    def log_probabilities_along(
        self, rows: Sequence[PlacedRow]
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """See :meth:`Engine.log_probabilities_along`; plain rows, several in a pass."""
        wanted: dict[Row, list[tuple[int, int]]] = {}
        for index, (tokens, first) in enumerate(rows):
            wanted.setdefault(tuple(tokens), []).append((index, len(tokens) - first + 1))
        n_read = {row: max(n for _, n in own) for row, own in wanted.items()}
        [(_, trees)] = lay_out_apart(n_read)
        whole = self.budgets.of("places", max(map(len, trees), default=1))
        budget = PassBudget(min(whole.tokens, PLACES_PER_PASS), whole.rows)
        for batch in budget.split_by_length(trees):
            self.deadline.check()
            read = [row for tree in batch for row in tree.places]
            logits = row_logits(self.module, block_of(batch, ()))
            parts = torch.split(logits, [n_read[row] for row in read])
            for row, own in zip(read, parts, strict=True):
                found = torch.log_softmax(own.float(), dim=-1)
                yield from ((index, found[-n:]) for index, n in wanted[row])

    def _longest(self, asked: Sequence[Continuation]) -> int:
        """Tokens of the longest row."""
        lengths = (len(one.context) + len(one.tokens) - 1 for one in asked)
        return min(max(lengths, default=1), self.max_length)

    def _planned(self, asked: Sequence[Continuation], budget: PassBudget) -> list[Stage]:
        """Stems in the order they are computed, each with the passes that continue it."""
        readers = rows_of(asked, self.max_length)
        read = n_read(asked, readers)
        alone = alone_on(self.module.device.type)
        branchings = lay_out(read, budget.tokens, alone) if self.shares else lay_out_apart(read)
        return [
            (
                stem,
                [
                    scoring_pass(batch, stem, asked, readers)
                    for batch in budget.split_by_length(trees, len(stem))
                ],
            )
            for stem, trees in branchings
        ]

    @torch.no_grad()
    def _run(self, stages: Sequence[Stage]) -> Iterator[tuple[ScoringPass, torch.Tensor]]:
        for stem, passes in stages:
            self.deadline.check()
            kept = read_stem(self.module, stem)
            for scored in passes:
                self.deadline.check()
                if self.shares:
                    yield scored, tree_logits(self.module, scored.block, kept)
                else:
                    yield scored, row_logits(self.module, scored.block)
