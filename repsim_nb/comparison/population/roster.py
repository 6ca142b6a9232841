"""What a call of `compare_models` asks for: models, activations and arrays, their layers, and the texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from repsim_nb.activations import Sampling
from repsim_nb.comparison.population.chosen_layers import LayerChoice
from repsim_nb.comparison.population.members import Given, Member, as_given, of_given
from repsim_nb.comparison.population.texts import as_texts
from repsim_nb.errors import InputError
from repsim_nb.measures.arrays import as_matrix
from repsim_nb.models import load_model
from repsim_nb.models.shape import Shape, shape_of


@dataclass(frozen=True)
class Roster:
    """Models, activations and arrays to compare in one or several texts.

    Attributes
    ----------
    given
        The entries, in order.
    choice
        Which layers are compared.
    texts
        The sampling of each text, its corpus loaded, by name. Without models one that nothing uses.
    shapes
        Place among the entries -> shape, for models.
    layers
        Layers of each entry, in the order in which they are compared.
    """

    given: tuple[Given, ...]
    choice: LayerChoice
    texts: dict[str, Sampling]
    shapes: dict[int, Shape]
    layers: tuple[list[int], ...]

    @classmethod
    def of(cls, models: Any, corpora: Any, choice: LayerChoice, sampling: Sampling) -> Roster:
        """Read the arguments; of models given by name only the configs.

        Raises
        ------
        InputError
            If an entry is no model and no activations, two have one name, or layers do not fit.
        """
        given = as_given(models, map(str, corpora) if isinstance(corpora, Mapping) else ())
        shapes = {place: shape_of(each.what) for place, each in enumerate(given) if each.is_model}
        first = next((given[place].what for place in shapes), None)
        texts = {} if first is None else as_texts(corpora, lambda: load_model(first).made_for)
        population = cls(
            tuple(given),
            choice,
            {name: sampling.of(corpus) for name, corpus in texts.items()} if texts else {"": sampling},
            shapes,
            (),
        )
        layers = [population._layers(place) for place in range(len(given))]
        names = {
            each.name or shapes[place].name: own for place, (each, own) in enumerate(zip(given, layers, strict=True))
        }
        choice.check_same(names)
        return cls(population.given, choice, population.texts, shapes, tuple(layers))

    @property
    def several(self) -> bool:
        """Whether there are several texts."""
        return len(self.texts) > 1

    def arrays(self, text: str | None = None) -> list[Member]:
        """The entries that are activations or arrays, in one text (the first one if None)."""
        text = next(iter(self.texts)) if text is None else text
        return [self.array(place, text) for place in range(len(self.given)) if place not in self.shapes]

    def array(self, place: int, text: str) -> Member:
        """An entry that is activations or arrays, in one text."""
        given = self.given[place]
        if self.several and not set(given.what) >= set(self.texts):
            raise InputError(
                f"{given.name} has rows of one text, and there are {len(self.texts)}: {', '.join(self.texts)}. Give "
                "its arrays by text, {text: array}, or compare one text at a time."
            )
        return of_given(given, self.choice, text)

    def widths(self) -> list[list[int]]:
        """Width of each layer of each entry."""
        site, text = next(iter(self.texts.values())).site, next(iter(self.texts))
        found = []
        for place, layers in enumerate(self.layers):
            if place in self.shapes:
                found.append([self.shapes[place].width(site)] * len(layers))
            else:
                acts = self.array(place, text).acts
                found.append([as_matrix(acts[layer], f"layer {layer}").shape[1] for layer in layers])
        return found

    def _layers(self, place: int) -> list[int]:
        if place not in self.shapes:
            return list(self.array(place, next(iter(self.texts))).layers)
        shape, site = self.shapes[place], next(iter(self.texts.values())).site
        return self.choice.of(shape.positions(self.choice.asked if self.choice.same else "all", site), shape.name)
