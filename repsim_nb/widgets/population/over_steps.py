"""Which models of a population are shown at a training step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from repsim_nb.widgets.population.colours import columns_of

if TYPE_CHECKING:
    import pandas as pd

UNTIL, AT = "until", "at"
SPANS = {"up to the step": UNTIL, "at the step": AT}
FEWEST = 2  # steps to move through


def steps_of_models(models: Sequence[str], table: pd.DataFrame | None) -> dict[str, int]:
    """Model -> training step, from the column "step" of the user's table, else from the revision.

    Empty if there are fewer than two steps. Models that are no checkpoints are not in it.
    """
    column = columns_of(models, table).get("step", {})
    found = {name: int(float(value)) for name, value in column.items() if str(value).removesuffix(".0").isdecimal()}
    return found if len(set(found.values())) >= FEWEST else {}


@dataclass(frozen=True)
class Moment:
    """A training step, and whether earlier checkpoints are shown with it.

    Models that are no checkpoints are shown at every step.

    Attributes
    ----------
    steps
        Model -> step.
    step
        The step; None shows all models.
    span
        "until" shows the checkpoints up to the step, the earlier ones pale; "at" those at the step alone.
    """

    steps: Mapping[str, int]
    step: int | None = None
    span: str = UNTIL

    @property
    def every(self) -> list[Moment]:
        """The same at each of the steps; this one alone if there are none."""
        if self.step is None:
            return [self]
        return [replace(self, step=step) for step in sorted(set(self.steps.values()))]

    def shows(self, model: str) -> bool:
        """Whether a model is shown."""
        its = self.steps.get(model)
        if self.step is None or its is None:
            return True
        return its == self.step if self.span == AT else its <= self.step

    def is_past(self, model: str) -> bool:
        """Whether a model is an earlier checkpoint."""
        return self.step is not None and self.steps.get(model, self.step) < self.step

    def among(self, models: Sequence[str]) -> list[str]:
        """The models that are shown, in the order given."""
        return [name for name in models if self.shows(name)]

    def words(self) -> str:
        """The moment in words, to follow a title; "" if all models are shown."""
        if self.step is None:
            return ""
        return f", {'at step' if self.span == AT else 'up to step'} {self.step:,}"
