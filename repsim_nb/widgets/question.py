"""What an explorer asks: the arguments of `compare`, with one or more models B."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from repsim_nb.activations import Sampling
from repsim_nb.comparison.controls import Controls
from repsim_nb.corpora import list_corpora
from repsim_nb.errors import InputError
from repsim_nb.measures import Measure, get_measure
from repsim_nb.uncertainty import Uncertainty
from repsim_nb.widgets.step_series import check_series, series

APART = ("corpus", "groups")  # fields that are not options of a question: the text, and what only arrays need


@dataclass(frozen=True)
class Question:
    """Models, layers, measure and text as in the pickers, and the objects that carry options.

    `over` says which side is asked over training: "a", "b", "both" or None; the others stay as they are.

    `split` belongs to the corpus of `sampling`, which is kept as given. Null and interval use the seed of the rows.

    Raises
    ------
    InputError
        A parameter of the measure is one value per row, or there is no series of checkpoints.
    """

    model_a: str
    models_b: tuple[str, ...]
    measure: str = "cka"
    params: dict[str, Any] = field(default_factory=dict)
    sampling: Sampling = field(default_factory=Sampling)
    split: str | None = None
    layers_a: str | tuple[int, ...] = "all"
    layers_b: str | tuple[int, ...] = "all"
    uncertainty: Uncertainty = field(default_factory=Uncertainty)
    controls: Controls = field(default_factory=Controls)
    over: str | None = None

    def __post_init__(self) -> None:
        for name, value in self.params.items():
            if not isinstance(value, str | int | float | bool | None):
                raise InputError(
                    f"{name} of {self.measure} is one value per row, which an explorer cannot set. Use "
                    "compare, or between_documents=True for pairs of rows of one document."
                )
        check_series(self.model_a, self.models_b, self.over)
        given = self.uncertainty
        same = replace(given, null=given.null or None, interval=given.interval or None, seed=self.sampling.seed)
        object.__setattr__(self, "uncertainty", same)

    @property
    def corpus(self) -> Any:
        """The corpus as in the picker: a name, a path, a tuple of texts, or None."""
        return self.sampling.corpus

    @property
    def configured(self) -> Measure:
        """The measure with its parameters."""
        return get_measure(self.measure, **self.params)

    @property
    def named(self) -> bool:
        """Whether the corpus is one of the package's own."""
        return isinstance(self.corpus, str) and self.corpus in list_corpora().index

    @property
    def by_step(self) -> dict[int | None, Question]:
        """Step -> the question about the checkpoints of that step; None -> this question if it is not over training."""
        if self.over is None:
            return {None: self}
        steps = series(self.model_a, self.models_b, self.over)
        return {step: replace(self, model_a=a, models_b=b, over=None) for step, (a, b) in steps.items()}

    def layers(self, side: str) -> str | list[int]:
        """Layers of "a" or "b" as `compare` takes them."""
        chosen = self.layers_a if side == "a" else self.layers_b
        return chosen if isinstance(chosen, str) else list(chosen)

    def same_sides(self, b: str) -> bool:
        """Whether the same layers of one model are on both sides."""
        return b == self.model_a and self.layers_a == self.layers_b

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `compare` that differ from its defaults, except models, measure and corpus."""
        layers = {f"layers_{side}": self.layers(side) for side in "ab" if self.layers(side) != "all"}
        return changed(self.sampling, self.uncertainty, self.controls) | layers


def changed(*objects: Any) -> dict[str, Any]:
    """The settings of objects that differ from their defaults, by name.

    Examples
    --------
    >>> changed(Sampling(n_rows=100), Controls(standardize=True), get_measure("cka", debiased=False))
    {'n_rows': 100, 'standardize': True, 'debiased': False}
    """
    return {
        name: value
        for each in objects
        for name, value in settings(each).items()
        if not np.all(value == getattr(type(each)(), name))
    }


def settings(*objects: Any) -> dict[str, Any]:
    """Parameters of measures, and fields of other dataclasses that are options of a question, by name."""
    found: dict[str, Any] = {}
    for each in objects:
        own = [f.name for f in fields(each) if isinstance(each, Measure) or f.name not in APART]
        found |= {name: getattr(each, name) for name in own}
    return found
