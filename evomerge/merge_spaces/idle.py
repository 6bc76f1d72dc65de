"""Parameters that would change nothing, because models hold equal tensors where they act."""

from __future__ import annotations

from dataclasses import dataclass

from evomerge.genome.inputs import Inputs
from evomerge.genome.merge_method import Method, Unmoved
from evomerge.merge_spaces.layout import Cell
from evomerge.models.architecture import Architecture
from evomerge.nouns.space import Parameter, Value
from evomerge.recipe.plain import rounded


@dataclass(frozen=True)
class IdleParameter:
    """One that is not searched.

    Attributes:
        name: The name it would have.
        place: Where in the models it would act; "" for everywhere.
        model: Which model is equal to the base there; "" where all are equal.
    """

    name: str
    place: str
    model: str = ""


@dataclass(frozen=True)
class Idleness:
    """What of a recipe changes nothing.

    Attributes:
        method: Its merge method.
        inputs: Its models.
        architecture: In which tensors they agree.
        divides: Whether weights are divided by their sum.
    """

    method: Method
    inputs: Inputs
    architecture: Architecture
    divides: bool

    def everything(self, cell: Cell) -> bool:
        """Whether no parameter changes anything at a place."""
        keeps = self.method.keeps_equal or self.divides
        return keeps and self.architecture.agree(self.inputs.models, cell.tensors)

    def of_source(self, parameter: str, index: int, cell: Cell) -> bool:
        """Whether the value of one model changes nothing at a place, whatever the others hold."""
        base, unmoved = self.inputs.base, self.method.unmoved
        if base is None or unmoved is Unmoved.COUNTS:
            return False
        if unmoved is Unmoved.DIVIDES and self.divides and parameter == "weight":
            return False
        return self.architecture.agree((base, self.inputs.models[index]), cell.tensors)


def start_of(parameter: Parameter) -> Value:
    """The value a parameter has where a search starts, as a recipe writes it."""
    value = parameter.decode(0.5) if parameter.initial is None else parameter.initial
    return rounded(value) if isinstance(value, float) else value
