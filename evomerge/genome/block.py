"""The base of every block of the genome: all of its mistakes at once, not the first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticKnownError
from typing_extensions import Self

from evomerge.genome.misfit import MisfitError

_UNSOUND = object()


def _no_boolean(kind: Literal["float_type", "int_type"]) -> BeforeValidator:
    """YAML's ``true`` is 1 to Python, and never what a user means by a number."""

    def refuse(value: Any) -> Any:
        if isinstance(value, bool):
            raise PydanticKnownError(kind)
        return value

    return BeforeValidator(refuse)


Number = Annotated[float, _no_boolean("float_type")]
Whole = Annotated[int, _no_boolean("int_type")]


@dataclass(frozen=True)
class ShortForm:
    """Stands beside the type of a field: how its block may be written in short, for editors.

    Attributes:
        type: As JSON schema calls it; the block itself takes it.
    """

    type: str

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"type": self.type}, handler(core)]}


@dataclass(frozen=True)
class Fit:
    """A check between fields of a block.

    Attributes:
        fields: What it looks at; it is called only where all of these are sound.
        check: Yields what does not fit.
    """

    fields: frozenset[str]
    check: Callable[[Any], Iterator[MisfitError]]


def fits(*fields: str) -> Callable[[Callable[[Any], Iterator[MisfitError]]], Fit]:
    """Makes a method the check of some fields of its block."""
    return lambda check: Fit(frozenset(fields), check)


class Block(BaseModel):
    """A block of the genome: frozen, no unknown keys, its fields checked against one another.

    A check between fields is a method under :func:`fits`. It is called as soon as its fields
    are sound, whatever the others are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ignored_types=(Fit,))

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        """The block as its fields, where the file may write it shorter."""
        return value

    @classmethod
    def _surplus(cls, value: Any) -> Iterable[str]:
        """Keys of the file that do not belong here, where the block leaves some to others."""
        return ()

    @model_validator(mode="wrap")
    @classmethod
    def _all_at_once(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(value, cls):
            return value
        surplus = [
            InitErrorDetails(type="extra_forbidden", loc=(key,), input=value[key])
            for key in cls._surplus(value)
        ]
        value = cls._long_form(value)
        unsound: set[str] = set()
        found: list[InitErrorDetails] = []
        try:
            block = handler(value)
        except ValidationError as error:
            if not isinstance(value, dict):
                raise
            found = [_again(details) for details in error.errors(include_url=False)]
            block, unsound = cls._sound_part(value, [each["loc"] for each in found])
        found += surplus
        unsound |= cls._perhaps_misspelt(each["loc"][0] for each in surplus)
        for fit in cls._fits():
            if not fit.fields & unsound:
                for misfit in fit.check(block):
                    context = {"error": misfit}
                    found.append(InitErrorDetails(type="value_error", input=value, ctx=context))
        if found:
            raise ValidationError.from_exception_data(cls.__name__, found)
        return block

    def misfits(self) -> Iterator[MisfitError]:
        """What does not fit between its fields, which are sound each by itself."""
        for fit in self._fits():
            yield from fit.check(self)

    @classmethod
    def _fits(cls) -> list[Fit]:
        """Its checks between fields, those of blocks that it is made from among them."""
        found: dict[str, Any] = {}
        for one in reversed(cls.__mro__):
            found |= vars(one)
        return [each for each in found.values() if isinstance(each, Fit)]

    @classmethod
    def _sound_part(
        cls, value: dict[str, Any], wrong: Sequence[tuple[int | str, ...]]
    ) -> tuple[Any, set[str]]:
        """The block without what is wrong, and the names of the fields it lacks.

        Args:
            value: The block as the file has it.
            wrong: Where the mistakes are.
        """
        sound: dict[str, Any] = {}
        unsound = cls._perhaps_misspelt(place[0] for place in wrong)
        for name, field in cls.model_fields.items():
            below = [place[1:] for place in wrong if place[0] == name]
            is_mapping = get_origin(field.annotation) is dict
            rest = _without(value.get(name), below, is_mapping)
            if rest is _UNSOUND:
                unsound.add(name)
            elif name in value:
                sound[name] = TypeAdapter(field.rebuild_annotation()).validate_python(rest)
        return cls.model_construct(**sound), unsound

    @classmethod
    def _perhaps_misspelt(cls, wrong: Iterable[int | str]) -> set[str]:
        """Fields that unknown keys may stand for: whether these are given nobody knows."""
        unknown = (str(name) for name in wrong if name not in cls.model_fields)
        return {name for key in unknown for name in get_close_matches(key, cls.model_fields)}


def _without(value: Any, wrong: Sequence[tuple[int | str, ...]], is_mapping: bool) -> Any:
    """The value without its wrong entries; a mapping of the user's names keeps the others."""
    if not wrong:
        return value
    if is_mapping and isinstance(value, dict) and all(wrong):
        keys = {place[0] for place in wrong}
        return {key: entry for key, entry in value.items() if key not in keys}
    return _UNSOUND


def _again(details: Any) -> InitErrorDetails:
    """One of pydantic's complaints, to be raised together with others."""
    again = InitErrorDetails(type=details["type"], loc=details["loc"], input=details["input"])
    if "ctx" in details:
        again["ctx"] = details["ctx"]
    return again
