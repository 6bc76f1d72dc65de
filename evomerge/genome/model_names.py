"""How a genome names a model: Hub id or folder, revision, LoRA adapter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evomerge.foundations.canonical import digest
from evomerge.genome.block import Block, fits
from evomerge.genome.misfit import MisfitError


class ModelName(Block):
    """A model as mergekit writes it: ``path[@revision][+lora[@revision]]``.

    A folder whose own name holds ``+`` or ``@`` is written as a mapping:
    ``{model: {path: ...}, lora: {path: ...}}``. What an earlier stage of a genome finds is
    ``{stage: NAME}``, which no folder and no id of the Hub can be.
    """

    path: str
    revision: str | None = None
    lora: str | None = None
    lora_revision: str | None = None
    is_stage: bool = False

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            return _parse(value)
        if isinstance(value, dict) and "stage" in value:
            return _of_stage(value)
        if isinstance(value, dict) and "model" in value:
            return _from_mapping(value)
        return value

    @fits("path", "lora")
    def _not_empty(self) -> Iterator[MisfitError]:
        if not self.path.strip() or self.lora == "":
            yield MisfitError("a model needs a Hub id or a folder, got an empty text")
        broken = next((name for name in (self.path, self.lora or "") if "\n" in name), None)
        if broken is not None:
            yield MisfitError(
                f"{broken!r} holds a line break, at which mergekit ends the name",
                fix="Rename the folder.",
            )

    @property
    def text(self) -> str:
        """``path[@revision][+lora[@revision]]``, for people."""
        if self.is_stage:
            return f"stage {self.path}"
        lora = f"+{_at(self.lora, self.lora_revision)}" if self.lora is not None else ""
        return _at(self.path, self.revision) + lora

    @property
    def places(self) -> tuple[str, ...]:
        """Of itself and of its adapter, if it has one: folders, or ids of the Hub."""
        return tuple(part for part in (self.path, self.lora) if part)

    @property
    def in_recipe(self) -> str | dict[str, Any]:
        """The value of ``model:`` in a recipe that mergekit reads back as this model.

        Nobody can but evomerge where a stage is to find it yet.
        """
        if self.is_stage:
            return {"stage": self.path}
        if not any(mark in part for part in (self.path, self.lora or "") for mark in "+@"):
            return self.text
        mapping: dict[str, Any] = {"model": _path_mapping(self.path, self.revision)}
        if self.lora is not None:
            mapping["lora"] = _path_mapping(self.lora, self.lora_revision)
        return mapping

    @property
    def key(self) -> str:
        """What it is called in line 1 of a ledger."""
        reference = self.in_recipe
        return reference if isinstance(reference, str) else digest(reference)

    def __str__(self) -> str:
        return self.text


def _at(path: str, revision: str | None) -> str:
    return f"{path}@{revision}" if revision is not None else path


def _path_mapping(path: str, revision: str | None) -> dict[str, Any]:
    return {"path": path} if revision is None else {"path": path, "revision": revision}


def _split_revision(text: str) -> tuple[str, str | None]:
    path, at, revision = text.partition("@")
    if "@" in revision:
        raise ValueError(
            f"{text!r} holds more than one '@'; write a folder whose name holds '@' as "
            "{model: {path: ...}}"
        )
    return path, revision if at else None


def _parse(text: str) -> dict[str, Any]:
    model, plus, lora = text.partition("+")
    if "+" in lora:
        raise ValueError(
            f"{text!r} holds more than one '+'; write a folder whose name holds '+' as "
            "{model: {path: ...}}"
        )
    path, revision = _split_revision(model)
    parsed: dict[str, Any] = {"path": path, "revision": revision}
    if plus:
        parsed["lora"], parsed["lora_revision"] = _split_revision(lora)
    return parsed


def _of_stage(value: dict[str, Any]) -> dict[str, Any]:
    if set(value) != {"stage"} or not isinstance(value["stage"], str):
        raise ValueError(f"a stage is named by {{stage: NAME}} and nothing else, got {value!r}")
    return {"path": value["stage"], "is_stage": True}


def _from_mapping(value: dict[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(value) - {"model", "lora"})
    if unknown:
        raise ValueError(f"a model mapping has the keys model and lora, got {', '.join(unknown)}")
    parsed: dict[str, Any] = {}
    for key, path_key, revision_key in (
        ("model", "path", "revision"),
        ("lora", "lora", "lora_revision"),
    ):
        part = value.get(key)
        if isinstance(part, str):
            parsed[path_key], parsed[revision_key] = _split_revision(part)
        elif isinstance(part, dict) and set(part) <= {"path", "revision"} and "path" in part:
            parsed[path_key], parsed[revision_key] = part["path"], part.get("revision")
        elif part is not None:
            raise ValueError(f"{key}: expected a text or {{path, revision}}, got {part!r}")
    return parsed
