"""What the sources themselves say of their texts: the best logits of every token."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import load, save

from evomerge.optimizers.search_context import Artifacts
from evomerge.recipe.plain import Recipe
from evomerge.training.mixture import Mixture
from evomerge.training.passes import Pass, Text, fitting


@dataclass(frozen=True)
class Said:
    """A teacher's logits of the tokens of a text.

    Attributes:
        logits: Its best ones, or all, shape (tokens, k).
        tokens: Which they are of, same shape; None where all are held.
    """

    logits: torch.Tensor
    tokens: torch.Tensor | None

    def among(self, student: torch.Tensor) -> torch.Tensor:
        """The student's logits of the same tokens."""
        return student if self.tokens is None else student.gather(1, self.tokens.long())


class Teachers:
    """Asks the sources, each in the live model's place; keeps what they said if there is room.

    Args:
        mixture: Holds the live model, which is overwritten.
        recipes: One per source, giving it back as it is.
        top_k: Logits held per token; None: all.
        artifacts: Where they are kept between epochs and runs; None: they are asked anew.
    """

    @property
    def keeps(self) -> bool:
        """Whether what they said is asked for once only."""
        return self._artifacts is not None

    def __init__(
        self,
        mixture: Mixture,
        recipes: Sequence[Recipe],
        top_k: int | None,
        artifacts: Artifacts | None,
    ) -> None:
        self._mixture = mixture
        self._recipes = recipes
        self._top_k = top_k
        self._artifacts = artifacts
        self._held: dict[tuple[int, Text], Said] = {}
        self.n_tokens = 0

    def ask(self, source: int, texts: Sequence[Text], batch_size: int) -> list[Said]:
        """What a source says of each text; the live model may be another one afterwards."""
        missing = [text for text in texts if (source, text) not in self._held]
        answered = self._answers(source, missing, batch_size) if missing else {}
        if self._artifacts is not None:
            self._held |= {(source, text): said for text, said in answered.items()}
        return [answered[t] if t in answered else self._held[source, t] for t in texts]

    def _answers(self, source: int, texts: list[Text], batch_size: int) -> dict[Text, Said]:
        name = f"teachers/{source}-{_digest(texts, self._top_k)}.safetensors"
        kept = self._artifacts.recall(name) if self._artifacts is not None else None
        module = None if kept is not None else self._mixture.of(self._recipes[source]).module
        found = load(kept) if kept is not None else {}
        for start in range(0, 0 if module is None else len(texts), batch_size):
            some = texts[start : start + batch_size]
            with torch.no_grad(), fitting():
                said = self._said(some, module)
            for index, (logits, tokens) in enumerate(said, start):
                found[f"logits.{index}"] = logits
                if tokens is not None:
                    found[f"tokens.{index}"] = tokens
        if kept is None and self._artifacts is not None:
            self._artifacts.keep(name, save({key: t.cpu() for key, t in found.items()}))
        device = self._mixture.device
        held = {key: tensor.to(device) for key, tensor in found.items()}
        return {
            text: Said(held[f"logits.{index}"], held.get(f"tokens.{index}"))
            for index, text in enumerate(texts)
        }

    def _said(
        self, texts: Sequence[Text], module: object
    ) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        batch = Pass.of(texts, self._mixture.device)
        self.n_tokens += batch.n_tokens
        logits = batch.logits(module)  # type: ignore[arg-type]  # the live model
        lengths = [text.n_read for text in texts]
        if self._top_k is None or self._top_k >= logits.shape[1]:
            return [(part.contiguous(), None) for part in torch.split(logits, lengths)]
        values, tokens = logits.topk(self._top_k, dim=1)
        pairs = zip(torch.split(values, lengths), torch.split(tokens.int(), lengths), strict=True)
        return [(own.contiguous(), indices.contiguous()) for own, indices in pairs]


def _digest(texts: Sequence[Text], top_k: int | None) -> str:
    told = repr((top_k, [(text.tokens, text.first) for text in texts]))
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
