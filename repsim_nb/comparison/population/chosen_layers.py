"""Which layers of models of any depth are compared with each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from repsim_nb.comparison.sides import Layers
from repsim_nb.errors import InputError
from repsim_nb.models.positions import as_layers

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)  # relative depths that layers="relative" compares
WORDS = ("all", "last", "relative", "best")


@dataclass(frozen=True)
class LayerChoice:
    """The argument `layers` of `compare_models`.

    Parameters
    ----------
    asked
        "all" or layers: the same ones of every model. "last": the last of each. "relative": the nearest to each of
        `DEPTHS`. "best": all, of which each pair's most similar ones count.

    Raises
    ------
    InputError
        If it is none of these.

    Examples
    --------
    >>> choice = LayerChoice("relative")
    >>> choice.of([0, 1, 2, 3, 4, 5, 6]), choice.of([0, 1, 2])
    ([0, 2, 3, 5, 6], [0, 1, 1, 2, 2])
    """

    asked: Layers

    def __post_init__(self) -> None:
        if isinstance(self.asked, str) and self.asked not in WORDS:
            raise InputError(
                f"layers={self.asked!r}; expected {', '.join(f'{word!r}' for word in WORDS)}, a layer or a list of "
                "layers."
            )
        object.__setattr__(self, "asked", as_layers(self.asked))

    @property
    def best(self) -> bool:
        """Whether each pair has layers of its own."""
        return self.asked == "best"

    @property
    def same(self) -> bool:
        """Whether layers are compared by their number, so that all models need the same ones."""
        return self.asked not in ("last", "relative", "best")

    @property
    def dim(self) -> str | None:
        """The dimension of the result that tells layers apart; None if each pair has one value."""
        return "layer" if self.same else "depth" if self.asked == "relative" else None

    def of(self, available: Sequence[int], name: str = "a model") -> list[int]:
        """The layers of a model in the order in which they are compared, of those it has.

        Ties of distance go to the deeper layer.
        """
        if self.asked == "last":
            return [max(available)]
        if self.asked != "relative":
            return list(available)
        deepest = max(available)
        if len(available) < 2 or deepest <= 0:
            raise InputError(
                f'{name} has only layer {deepest}, which has no relative depth. Use layers="last" or layers="best".'
            )
        return [max(available, key=lambda layer: (-abs(layer - depth * deepest), layer)) for depth in DEPTHS]

    def check_same(self, layers: Mapping[str, list[int]]) -> None:
        """Raise if models that are compared by layer number have different ones."""
        first, *others = layers.items()
        different = next((other for other in others if other[1] != first[1]), None)
        if self.same and different:
            raise InputError(
                f"All models need the same layers; {first[0]} has {_listed(first[1])} and {different[0]} has "
                f'{_listed(different[1])}. For models of different depth use layers="last", "relative" or "best".'
            )


def _listed(layers: Sequence[Any]) -> str:
    return ", ".join(map(str, layers))
