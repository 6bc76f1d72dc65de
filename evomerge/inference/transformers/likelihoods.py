"""Log-likelihoods of continuations: which passes give them, and what they say.

The passes of a run depend on its requests alone, not on the weights: they are planned once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import numpy as np
import torch

from evomerge.inference.base import Continuation, LogLikelihood
from evomerge.inference.transformers.tree_passes import PaddedRows, block_of
from evomerge.inference.transformers.trees import Row, Tree

Readers = Mapping[Row, Sequence[int]]  # row -> positions of the requests that read it

# Logits turned to float32 at once; bounds memory where every position is scored.
SCORED_AT_ONCE = 2048


@dataclass(frozen=True)
class ScoringPass:
    """One forward pass and what is read from it.

    Attributes:
        block: What the model reads.
        read_from: Place in the block for each token of the continuations.
        wanted: These tokens, one continuation after the other.
        lengths: Tokens of each continuation.
        requests: The request that each continuation answers.
    """

    block: PaddedRows
    read_from: torch.Tensor
    wanted: torch.Tensor
    lengths: list[int]
    requests: list[int]

    def n_tokens(self, stem: Row) -> int:
        """Tokens it holds, with padding and a stem for each tree."""
        n_trees, width = self.block.tokens.shape
        return n_trees * (width + len(stem))


Stage = tuple[Row, list[ScoringPass]]  # a stem and the passes that continue it


def largest(stages: Sequence[Stage]) -> list[Stage]:
    """The passes that need the most memory: for what they read, and for what is read from them."""
    passes = [(stem, scored) for stem, own in stages for scored in own]
    if not passes:
        return []
    widest = max(passes, key=lambda one: one[1].n_tokens(one[0]))
    most_read = max(passes, key=lambda one: one[1].block.places.shape[1])
    found = [widest] if widest is most_read else [widest, most_read]
    return [(stem, [scored]) for stem, scored in found]


def rows_of(requests: Sequence[Continuation], max_length: int) -> dict[Row, list[int]]:
    """What is read for each request: context and continuation without its last token.

    Requests that read the same tokens (options of one token, repeated requests) share a row.
    """
    readers: dict[Row, list[int]] = {}
    for position, (context, tokens) in enumerate(requests):
        row = tuple((context + tokens[:-1])[-max_length:])
        readers.setdefault(row, []).append(position)
    return readers


def n_read(requests: Sequence[Continuation], readers: Readers) -> dict[Row, int]:
    """Row -> how many of its last positions are read."""
    return {
        row: max(len(requests[position].tokens) for position in positions)
        for row, positions in readers.items()
    }


def scoring_pass(
    trees: Sequence[Tree], stem: Row, requests: Sequence[Continuation], readers: Readers
) -> ScoringPass:
    """The pass over some trees of one stem."""
    block = block_of(trees, stem)
    place = {tuple(where): index for index, where in enumerate(block.places.T.tolist())}
    read_from: list[int] = []
    asked: list[int] = []
    for index, tree in enumerate(trees):
        for row, columns in tree.places.items():
            for position in readers[row]:
                last = columns[len(columns) - len(requests[position].tokens) :]
                read_from += [place[index, column] for column in last]
                asked.append(position)
    continuations = [requests[position].tokens for position in asked]
    wanted = torch.tensor(list(chain.from_iterable(continuations)))
    return ScoringPass(block, torch.tensor(read_from), wanted, list(map(len, continuations)), asked)


def answers_from(logits: torch.Tensor, scored: ScoringPass) -> Iterator[tuple[int, LogLikelihood]]:
    """Each request of a pass and its answer.

    Args:
        logits: At the places of the pass, shape (places, vocabulary).
        scored: The pass.
    """
    normalisers, best = [], []
    for part in torch.split(logits, SCORED_AT_ONCE):
        normalisers.append(torch.logsumexp(part.float(), dim=-1))
        best.append(part.argmax(dim=-1))
    places, tokens = scored.read_from.to(logits.device), scored.wanted.to(logits.device)
    values = (logits[places, tokens].float() - torch.cat(normalisers)[places]).double().cpu()
    greedy = (torch.cat(best)[places] == tokens).cpu()
    starts = [0, *accumulate(scored.lengths[:-1])]
    likelihoods = np.add.reduceat(values.numpy(), starts).tolist()
    are_greedy = np.logical_and.reduceat(greedy.numpy(), starts).tolist()
    return zip(scored.requests, zip(likelihoods, are_greedy, strict=True), strict=True)
