"""The models, activations and arrays that a population is made of, and their layers at equal rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repsim_nb.activations import Activations, Sampling
from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.population.chosen_layers import LayerChoice
from repsim_nb.comparison.sides import as_side, layers_of, same_rows
from repsim_nb.corpora import Corpus
from repsim_nb.errors import InputError
from repsim_nb.measures.arrays import as_matrix
from repsim_nb.models import Model

PER_DOCUMENT = ("last", "mean", "cls")  # kinds of rows of which each document has one


@dataclass(frozen=True)
class Given:
    """One entry of the argument `models`.

    Attributes
    ----------
    name
        Its name, or None for a model that names itself.
    what
        A model, what `load_model` takes, or activations: layer -> array.
    """

    name: str | None
    what: Any

    @property
    def is_model(self) -> bool:
        """Whether it has to be run."""
        return not isinstance(self.what, Mapping)


def as_given(models: Any, texts: Iterable[str] = ()) -> list[Given]:
    """Read the argument `models`; a mapping whose keys are the names of all texts holds arrays by text.

    Raises
    ------
    InputError
        If it is no list or mapping, has fewer than two entries, or two of them have one name.
    """
    if isinstance(models, str | Model) or not isinstance(models, Mapping | Iterable):
        raise InputError(f"models={models!r}; expected a list of at least two models.")
    entries = list(models.items()) if isinstance(models, Mapping) else [(None, model) for model in models]
    if len(entries) < 2:
        raise InputError(f"Need at least two models, got {len(entries)}.")
    found = []
    for place, (key, given) in enumerate(entries):
        by_text = isinstance(given, Mapping) and {*given} == {*texts}
        side = given if by_text else as_side(given, f"model {place} of models")
        name = None if key is None else str(key)
        if name is None and isinstance(side, Mapping):
            name = side.provenance["model"]["model"] if isinstance(side, Activations) else str(place)
        found.append(Given(name, side))
    check_names([given.name for given in found if given.name is not None])
    return found


def check_names(names: Sequence[str]) -> None:
    """Raise if a name stands twice."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{twice} appears twice; list each model once, or name them, as {{name: model}}.")


@dataclass(frozen=True)
class Member:
    """One of a population: its layers at the rows that all of them share.

    Attributes
    ----------
    name
        Its name.
    acts
        Layer -> array. Those of models lie on disk, and a layer is read when it is asked for.
    layers
        The layers to compare, in order; "relative" may name one twice.
    controls, kept
        What to remove, and the mask of rows that it leaves, bool (n_rows,); None without controls.
    """

    name: str
    acts: Mapping[int, Any]
    layers: tuple[int, ...]
    controls: Controls = Controls()  # noqa: RUF009
    kept: np.ndarray | None = None

    @property
    def stored(self) -> bool:
        """Whether the store of the call has the layers, where workers find them too."""
        return isinstance(self.acts, Activations) and self.acts.stored_as is not None

    def read(self, layer: int) -> Tensor:
        """One layer after the controls."""
        what = f"layer {layer} of {self.name}"
        if self.kept is not None:
            return self.controls.changed(self.acts[layer], self.kept, layer)
        return self.acts[layer] if isinstance(self.acts, Activations) else as_matrix(self.acts[layer], what)

    def identity(self, layer: int) -> Any:
        """Everything that a layer's values depend on, the controls apart."""
        key = self.acts.stored_as if isinstance(self.acts, Activations) else None
        if key is not None:
            return {name: value for name, value in key.items() if name != "layers"} | {"layer": layer}
        x = as_matrix(self.acts[layer], f"layer {layer} of {self.name}")
        layout = f"{x.dtype} {tuple(x.shape)}".encode()
        return hashlib.sha256(layout + np.ascontiguousarray(x.numpy(force=True)).tobytes()).hexdigest()

    def held(self, layers: Sequence[int]) -> Member:
        """The same with these layers in memory, to travel to another machine."""
        values = {layer: self.acts[layer] for layer in layers}
        acts: Mapping[int, Any] = values
        if isinstance(self.acts, Activations):
            acts = Activations(values, self.acts.rows, self.acts.provenance, self.acts.stored_as)
        return replace(self, acts=acts)


def of_one_dtype(layers: Sequence[Tensor]) -> list[Tensor]:
    """Layers in the highest precision among them, since arrays may be in float64 and models in float32."""
    widest = layers[0].dtype
    for x in layers:
        widest = torch.promote_types(widest, x.dtype)
    return [x.to(widest) for x in layers]


def with_controls(members: Sequence[Member], controls: Controls) -> list[Member]:
    """The members with rows left out for all of them alike."""
    if not controls:
        return list(members)
    kept = controls.kept(layers_of(member.acts, sorted(set(member.layers))) for member in members)
    return [replace(member, controls=controls, kept=kept) for member in members]


def of_given(given: Given, choice: LayerChoice, text: str | None = None) -> Member:
    """A member that comes as activations or arrays.

    Parameters
    ----------
    given
        The entry.
    choice
        Which layers to compare.
    text
        Name of the text, for an entry that has arrays by text; None without one.
    """
    assert given.name is not None
    acts = given.what
    if text is not None and text in acts:
        acts = as_side(acts[text], f"{text} of {given.name}")
    acts = layers_of(acts, choice.asked if choice.same else "all")
    return Member(given.name, acts, tuple(choice.of(list(acts), given.name)))


def matched(member: Member, model: Activations, sampling: Sampling) -> Member:
    """The member with the rows that a model has, if rows can be matched.

    Raises
    ------
    InputError
        If arrays have no row for each document of the text, or activations have other rows.
    """
    if isinstance(member.acts, Activations):
        same_rows(model, member.acts)
        return member
    corpus = sampling.text
    if sampling.rows not in PER_DOCUMENT:
        raise InputError(
            f'{member.name} is an array beside models, whose rows are tokens (rows="{sampling.rows}"). Its rows can '
            'only be matched if they are documents: use rows="mean", rows="last" or, for encoders, rows="cls".'
        )
    place = {name: number for number, name in enumerate(corpus.documents)}
    index = torch.tensor([place[name] for name in model.rows["document"]])
    layers = {layer: as_matrix(x, f"layer {layer} of {member.name}") for layer, x in member.acts.items()}
    for layer, x in layers.items():
        _check_count(member.name, layer, len(x), corpus)
    return replace(member, acts={layer: x[index] for layer, x in layers.items()})


def _check_count(name: str, layer: int, count: int, corpus: Corpus) -> None:
    if count != len(corpus):
        raise InputError(
            f"{name} has {count:,} rows at layer {layer}, and {corpus.name} has {len(corpus):,} documents. Beside "
            "models an array needs one row for each document, in the order of the corpus."
        )


def check_equal_rows(members: Sequence[Member]) -> int:
    """Number of rows, if all members have it."""
    counts = {member.name: _count(member) for member in members}
    first, n = next(iter(counts.items()))
    other = next((name for name in counts if counts[name] != n), None)
    if other is not None:
        raise InputError(
            f"{first} has {n} rows, {other} has {counts[other]}: row i of both must be the same stimulus. Align the "
            "rows first."
        )
    extracted = [member.acts for member in members if isinstance(member.acts, Activations)]
    for acts in extracted[1:]:
        same_rows(extracted[0], acts)
    return n


def _count(member: Member) -> int:
    if isinstance(member.acts, Activations):
        return len(member.acts.rows)
    layer = member.layers[0]
    return len(as_matrix(member.acts[layer], f"layer {layer} of {member.name}"))
