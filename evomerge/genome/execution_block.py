"""Where trials run, and how many at once: `execution:` of the genome."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from evomerge.genome.block import Block, Number, Whole


class Execution(Block):
    """Where trials run, and how many at once; further keys are the executor's own settings."""

    model_config = ConfigDict(extra="allow")

    executor: str = Field(
        "auto",
        description="Where trials run; `evomerge list executors`. `auto`: `serial` for one worker "
        "without settings of its own, else `processes`.",
    )
    workers: Annotated[Whole, Field(ge=1, le=1024)] = Field(1, description="Trials at once.")
    trial_timeout: Annotated[Number, Field(gt=0)] | None = Field(
        None,
        description="Seconds a trial may take on any split, baselines included, and the start of a "
        "worker; a longer one is ended and has failed.",
    )

    @property
    def chosen_executor(self) -> str:
        """The name of an executor, also where the genome leaves it open."""
        if self.executor != "auto":
            return self.executor
        return "serial" if self.workers == 1 and not self.settings else "processes"

    @property
    def settings(self) -> dict[str, Any]:
        """The executor's own settings."""
        return dict(self.model_extra or {})
