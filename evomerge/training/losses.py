"""What a trainer minimises: of what the model says, and of the weights themselves.

Source: Gauthier-Caron et al., Merging in a bottle: differentiable adaptive merging (2024),
arXiv:2410.08371, sections 3.2 and 3.3.
Differs: every term but the similarity is a mean (over tokens; over places of the recipe), so
that its share does not depend on batch, length or depth; L2 is the mean square. The similarity
is the original's sum over modules where each has numbers enough to have a direction; where one
place holds one number per model, all places are one module.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
import torch.nn.functional as nn_functional

Tensor = torch.Tensor
_NO_LENGTH = 1e-16  # product of two squared lengths below which there is no angle


def likelihoods(logits: Tensor, tokens: Tensor, lengths: list[int]) -> Tensor:
    """Log-likelihood of each text, shape (texts,).

    Args:
        logits: Before each token, text after text, shape (tokens, vocabulary).
        tokens: Shape (tokens,).
        lengths: Tokens of each text.
    """
    each = -nn_functional.cross_entropy(logits.float(), tokens, reduction="none")
    return torch.stack([own.sum() for own in torch.split(each, lengths)])


def choice_nll(scores: Tensor, right: tuple[int, ...]) -> Tensor:
    """Cross-entropy of the right options, together, among all.

    Args:
        scores: What the options are compared by, shape (options,).
        right: Which are right.
    """
    return scores.logsumexp(0) - scores[list(right)].logsumexp(0)


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Sum over tokens of ``T^2 KL(teacher || student)``.

    Args:
        student: Logits, shape (tokens, vocabulary or the teacher's best).
        teacher: Logits of the same tokens, same shape.
        temperature: What both are divided by.
    """
    expected = torch.log_softmax(teacher.float() / temperature, dim=-1)
    found = torch.log_softmax(student.float() / temperature, dim=-1)
    return temperature**2 * (expected.exp() * (expected - found)).sum()


def square_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum over tokens of the mean square difference of logits."""
    return ((student.float() - teacher.float()) ** 2).mean(dim=-1).sum()


def entropy(student: Tensor, temperature: float) -> Tensor:
    """Sum over tokens of ``T^2 H(student)``."""
    log_p = torch.log_softmax(student.float() / temperature, dim=-1)
    return -(temperature**2) * (log_p.exp() * log_p).sum()


def of_weights(
    values: Tensor, models: Tensor, places: Tensor, modules: Tensor, angles: Tensor | None
) -> Mapping[str, Tensor]:
    """Each term of the weights; all are differentiable.

    Args:
        values: Shape (n,).
        models: Whose weight each is, shape (n,).
        places: Where it stands, shape (n,).
        modules: Of which module each place is, shape (places,).
        angles: Per pair of models and place ``sin^2(2 theta)`` between their task vectors, shape
            (pairs, places); None: not known, and no ``weighted_overlap``.
    """
    n_models, n_places = int(models.max()) + 1, int(places.max()) + 1
    table = values.new_zeros(n_models, n_places).index_put((models, places), values)
    table = table[sorted(set(models.tolist()))]
    pairs = list(combinations(range(len(table)), 2))
    shared = [torch.minimum(table[a].abs(), table[b].abs()) for a, b in pairs]
    terms = {"l1": values.abs().mean(), "l2": (values**2).mean()}
    if pairs:
        terms["similarity"] = _similarity(table, modules, pairs)
        terms["overlap"] = torch.stack(shared).mean()
        if angles is not None:
            terms["weighted_overlap"] = (torch.stack(shared) * angles).mean()
    return terms


def _similarity(table: Tensor, modules: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    """Sum over modules of the mean cosine of every two models' weights in it.

    A module of one place has a sign, no direction, and is left out.
    """
    n_modules = int(modules.max()) + 1

    def summed(products: Tensor) -> Tensor:
        return products.new_zeros(n_modules).index_add(0, modules, products)

    lengths = [summed(row**2) for row in table]
    cosines = [
        summed(table[a] * table[b]) / (lengths[a] * lengths[b]).clamp_min(_NO_LENGTH).sqrt()
        for a, b in pairs
    ]
    has_direction = torch.bincount(modules, minlength=n_modules) > 1
    return torch.stack(cosines).mean(dim=0)[has_direction].sum()
