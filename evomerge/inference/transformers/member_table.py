"""What the members of a mixture say of some continuations: read once, mixed as often as wanted.

A log-likelihood under the arithmetic mean takes the members' log-probabilities of the tokens that
are asked for, and nothing else of their vocabularies. Under the geometric mean each position has a
normaliser over the whole vocabulary, which depends on the weights: its rows are kept as long as
there is room.

Whether greedy decoding gives a token is exact for all weights, too. It takes the token with the
highest weighted mean, of probabilities or of their logarithms, and of equal ones the first in the
vocabulary. So a token is never greedy that an earlier one reaches, or a later one exceeds, in every
member. Any other is held against the few highest of those that it does not itself beat so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from evomerge.inference.base import LogLikelihood
from evomerge.inference.transformers.likelihoods import SCORED_AT_ONCE, ScoringPass
from evomerge.recipe.pool import ROWS_BYTES, Mean

SMALLEST = 1e-290  # of a sum of probabilities that still has all of its digits


@dataclass(frozen=True)
class MemberTable:
    """Continuations one after the other, each as its tokens.

    Attributes:
        logs: Log-probability of each token in each member, shape (members, tokens).
        starts: Where each continuation begins among the tokens.
        order: The request that each continuation answers.
        open: Continuations that some weights may make greedy.
        open_tokens: All tokens of these, one after the other.
        open_starts: Where each of these continuations begins among these.
        rivals: Log-probabilities of what each of these is held against, shape (members, rivals);
            the first of each is -inf.
        are_earlier: Which of the rivals come before their token in the vocabulary: they win ties.
        rival_starts: Where those of each of these tokens begin.
        positions: Row of each token; empty without rows.
        rows: Log-probabilities of all tokens at each position, float32, shape (positions,
            members, vocabulary); None where they are not kept.
    """

    logs: NDArray[np.float64]
    starts: NDArray[np.intp]
    order: NDArray[np.intp]
    open: NDArray[np.intp]
    open_tokens: NDArray[np.intp]
    open_starts: NDArray[np.intp]
    rivals: NDArray[np.float64]
    are_earlier: NDArray[np.bool_]
    rival_starts: NDArray[np.intp]
    positions: NDArray[np.intp]
    rows: torch.Tensor | None

    @property
    def n_bytes(self) -> int:
        """What it takes."""
        kept = self.logs.nbytes + self.rivals.nbytes
        return kept if self.rows is None else kept + self.rows.nbytes

    def has(self, mean: Mean) -> bool:
        """Whether it holds what a mean takes."""
        return mean == "arithmetic" or self.rows is not None

    def answers(self, weights: Sequence[float], mean: Mean) -> list[LogLikelihood]:
        """The log-likelihood of each request, and whether greedy decoding gives it.

        Args:
            weights: One per member, with the sum 1.
            mean: One that it :meth:`has`.
        """
        if not len(self.starts):
            return []
        if mean == "geometric":
            tokens, rivals = _weighted(weights, self.logs), _weighted(weights, self.rivals)
            values = tokens
            if self.rows is not None:
                values = tokens - _normalisers(self.rows, weights)[self.positions]
        else:
            tokens, rivals = (_weighted(weights, own) for own in self._probabilities)
            values = _log_of(tokens, weights, self.logs)
        found = np.empty(len(self.order))
        found[self.order] = np.add.reduceat(values, self.starts)
        greedy = np.zeros(len(self.order), dtype=bool)
        if len(self.open):
            counts = np.diff(self.rival_starts, append=len(rivals))
            own = np.repeat(tokens[self.open_tokens], counts)
            wins = (own > rivals) | ((own == rivals) & ~self.are_earlier)  # never where it is nan
            are_best = np.logical_and.reduceat(wins, self.rival_starts)
            greedy[self.order[self.open]] = np.logical_and.reduceat(are_best, self.open_starts)
        return list(zip(found.tolist(), greedy.tolist(), strict=True))

    @cached_property
    def _probabilities(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Those of the tokens and of their rivals."""
        return np.exp(self.logs), np.exp(self.rivals)


def table_of(
    passes: Iterable[tuple[ScoringPass, torch.Tensor]], n_members: int, mean: Mean
) -> MemberTable:
    """The table of some passes.

    Args:
        passes: Each with the logits of all members at its places, shape (places, members,
            vocabulary).
        n_members: How many members there are.
        mean: Under geometric rows are kept as well, up to ``ROWS_BYTES``.
    """
    logs, lengths, order, n_positions = [], list[int](), list[int](), 0
    rivals, open_ = [np.full((n_members, 0), -np.inf)], list[NDArray[np.intp]]()
    are_earlier = [np.empty(0, dtype=bool)]
    n_rivals, positions = list[int](), list[NDArray[np.intp]]()
    rows: list[torch.Tensor] | None = [] if mean == "geometric" else None
    for scored, logits in passes:
        places = scored.read_from.to(logits.device)
        wanted = scored.wanted.to(logits.device)
        own, is_beaten = _own(logits, places, wanted)
        logs.append(own)
        starts = _starts(scored.lengths)
        never = np.logical_or.reduceat(is_beaten, starts)
        is_open = np.repeat(~never, scored.lengths)
        for one, n_earlier in _rivals(logits, places, wanted, np.flatnonzero(is_open)):
            rivals.append(one)
            n_rivals.append(one.shape[1])
            are_earlier.append(np.arange(one.shape[1]) >= one.shape[1] - n_earlier)
        open_.append(np.flatnonzero(~never) + len(order))
        lengths += scored.lengths
        order += scored.requests
        positions.append(scored.read_from.numpy() + n_positions)
        n_positions += len(logits)
        rows = _with_rows(rows, logits)
    open_all = np.concatenate(open_) if open_ else np.empty(0, dtype=np.intp)
    starts_all, lengths_all = _starts(lengths), np.array(lengths, dtype=np.intp)
    tokens = [np.arange(starts_all[one], starts_all[one] + lengths_all[one]) for one in open_all]
    return MemberTable(
        np.concatenate(logs, axis=1) if logs else np.empty((n_members, 0)),
        starts_all,
        np.array(order, dtype=np.intp),
        open_all,
        np.concatenate(tokens) if tokens else np.empty(0, dtype=np.intp),
        _starts(lengths_all[open_all].tolist()),
        np.concatenate(rivals, axis=1),
        np.concatenate(are_earlier),
        _starts(n_rivals),
        np.concatenate(positions) if positions else np.empty(0, dtype=np.intp),
        torch.cat(rows) if rows else None,
    )


def _weighted(weights: Sequence[float], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum over members, shape (members, n) -> (n,); what weighs nothing may be anything.

    Member after member, so that equal numbers have equal sums wherever they stand.
    """
    found = np.zeros(values.shape[1])
    for weight, own in zip(weights, values, strict=True):
        if weight > 0:
            found += weight * own
    return found


def _log_of(
    totals: NDArray[np.float64], weights: Sequence[float], logs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The logarithm of weighted sums of probabilities, those too small for a number included.

    Args:
        totals: The sums.
        weights: One per member.
        logs: What they are sums of, shape (members, n).
    """
    is_small = totals < SMALLEST
    found: NDArray[np.float64] = np.log(totals, where=~is_small, out=np.full_like(totals, -np.inf))
    if is_small.any():
        pairs = [
            (math.log(w), own[is_small]) for w, own in zip(weights, logs, strict=True) if w > 0
        ]
        found[is_small] = np.logaddexp.reduce([weight + own for weight, own in pairs])
    return found


def _normalisers(rows: torch.Tensor, weights: Sequence[float]) -> NDArray[np.float64]:
    """The logarithm of what the geometric mean is divided by, shape (positions,)."""
    found = []
    for part in torch.split(rows, SCORED_AT_ONCE):
        pairs = [(w, part[:, m]) for m, w in enumerate(weights) if w > 0]
        mixed = pairs[0][0] * pairs[0][1]
        for weight, own in pairs[1:]:
            mixed.add_(own, alpha=weight)
        found.append(torch.logsumexp(mixed, dim=-1))
    return torch.cat(found).double().cpu().numpy()


def _with_rows(rows: list[torch.Tensor] | None, logits: torch.Tensor) -> list[torch.Tensor] | None:
    """The rows kept so far and those of a pass; None where there is no room, then or before."""
    if rows is None:
        return None
    n_bytes = sum(one.nbytes for one in rows) + logits.numel() * torch.float32.itemsize
    if n_bytes > ROWS_BYTES:
        return None
    return [*rows, torch.log_softmax(logits.float(), dim=-1)]


def _own(
    logits: torch.Tensor, places: torch.Tensor, wanted: torch.Tensor
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Log-probabilities of the tokens, shape (members, tokens), and which are never greedy."""
    logs, beaten = [], []
    for at, token in _parts(places, wanted, logits.shape[1]):
        found = torch.log_softmax(logits[at].float(), dim=-1)
        logs.append(_entries(found, token).squeeze(-1).double().cpu())
        found = _comparable(found)
        own = _entries(found, token)
        reach, exceed = (found >= own).all(dim=1), (found > own).all(dim=1)
        beaten.append(torch.where(_earlier(found, token), reach, exceed).any(dim=-1).cpu())
    return torch.cat(logs).T.numpy(), torch.cat(beaten).numpy()


def _rivals(
    logits: torch.Tensor, places: torch.Tensor, wanted: torch.Tensor, open_: NDArray[np.intp]
) -> Iterator[tuple[NDArray[np.float64], int]]:
    """What each of some tokens is held against, shape (members, rivals).

    And how many of these, the last ones, come before the token in the vocabulary.
    """
    chosen = torch.from_numpy(open_).to(logits.device)
    for at, token in _parts(places[chosen], wanted[chosen], logits.shape[1]):
        found = _comparable(torch.log_softmax(logits[at].float(), dim=-1))
        own, is_earlier = _entries(found, token), _earlier(found, token)
        earlier = is_earlier & ~(found < own).all(dim=1)
        later = ~is_earlier & ~(found <= own).all(dim=1)
        for row, before, after in zip(found, earlier, later, strict=True):
            none = np.full((len(row), 1), -np.inf)
            first, last = _front(row[:, before]), _front(row[:, after])
            yield np.concatenate([none, last, first], axis=1), first.shape[1]


def _comparable(logs: torch.Tensor) -> torch.Tensor:
    """The same with ties for nan, which count only where the member weighs nothing."""
    return logs.masked_fill(logs.isnan(), 0.0)


def _earlier(logs: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Which of the vocabulary come before each token, shape (tokens, vocabulary)."""
    return torch.arange(logs.shape[-1], device=logs.device) < tokens[:, None]


def _front(logs: torch.Tensor) -> NDArray[np.float64]:
    """Of columns those that no other reaches in every row, shape (members, front)."""
    found = []
    while logs.shape[1]:
        best = logs[:, logs.sum(dim=0).argmax()]  # nothing exceeds it everywhere
        found.append(best.double().cpu().numpy())
        logs = logs[:, ~(logs <= best[:, None]).all(dim=0)]
    return np.stack(found, axis=1) if found else np.empty((len(logs), 0))


def _entries(logs: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Those of one token each, shape (tokens, members, 1)."""
    return logs.gather(-1, tokens[:, None, None].expand(-1, logs.shape[1], 1))


def _parts(
    places: torch.Tensor, wanted: torch.Tensor, n_members: int
) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    """Few enough at once that their rows, in float32, fit as those of one model do."""
    n = max(1, SCORED_AT_ONCE // n_members)
    return zip(torch.split(places, n), torch.split(wanted, n), strict=True)


def _starts(lengths: Sequence[int]) -> NDArray[np.intp]:
    return np.array([begin for begin, _ in pairwise(accumulate(lengths, initial=0))], np.intp)
