"""Extract many models at the same rows of one or several texts, with one model in memory at a time."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

from repsim_nb.activations.extraction import Outline, Plan, arrived, departing
from repsim_nb.activations.sampling import Sampling
from repsim_nb.activations.selection import Selection, select
from repsim_nb.activations.store import Store, StoredLayers, as_store
from repsim_nb.activations.values import Activations
from repsim_nb.errors import InputError
from repsim_nb.models import Model, load_model
from repsim_nb.models.content import content_sha256
from repsim_nb.models.sending import sendable
from repsim_nb.models.shape import shape_of
from repsim_nb.system.executor import mapped, remembered
from repsim_nb.system.resources import Resources

Unit = tuple[int, int]  # text, model


@dataclass(frozen=True)
class InTurn:
    """Models and texts to extract.

    Attributes
    ----------
    models
        Models, or what `load_model` takes.
    positions
        Layers to record of each model.
    samplings
        One for each text, their corpora loaded.
    """

    models: tuple[Model | str, ...]
    positions: tuple[list[int], ...]
    samplings: tuple[Sampling, ...]
    resources: Resources

    def name(self, unit: Unit) -> str:
        """The model of a unit, for messages."""
        model = self.models[unit[1]]
        return model.name if isinstance(model, Model) else str(model)

    def selections(self) -> list[list[Selection]]:
        """The rows of every model in each text."""
        outlines = self._outlines()
        return [select(cast(Any, outlines), sampling, self.resources.memory_limit) for sampling in self.samplings]

    def _outlines(self) -> list[Outline]:
        """Load one model after the other for its tokenizer; of those that differ in weights alone only the first."""
        known: dict[str, Outline] = {}
        found = []
        for model in self.models:
            content = content_sha256(model, weights=False)
            if content is None or content not in known:
                outline = Outline.of(load_model(model))
                known |= {} if content is None else {content: outline}
            else:
                outline = replace(known[content], name=shape_of(model).name)
            found.append(outline)
        return found


def in_turn(job: InTurn, scratch: Store) -> Iterator[tuple[int, int, Activations]]:
    """Yield (text, model, activations), whose layers are read from disk when they are asked for.

    Parameters
    ----------
    job
        Its resources may have an executor, where models given by name run.
    scratch
        A store for what the store of `job.resources` does not keep, on this machine.

    Raises
    ------
    InputError
        As for `extract_aligned`, or if there is no room for the activations.
    """
    units = [(text, model) for model in range(len(job.models)) for text in range(len(job.samplings))]
    resources = job.resources
    elsewhere = resources.executor if sendable(job.models) else None
    alone = InTurn(job.models, job.positions, job.samplings, resources.alone)
    kept = resources.store not in (None, False)
    found = mapped(_extracted, alone, units, elsewhere, what="extracting", unit="model", name=job.name, kept=kept)
    for (text, model), acts in zip(units, found, strict=True):
        yield text, model, _at_rest(acts, resources, scratch)


def _extracted(job: InTurn, unit: Unit) -> Activations:
    text, number = unit
    selection = remembered("selections", job.selections)[text][number]
    model = remembered("model", lambda: load_model(job.models[number]), key=number)
    plan = Plan(model, selection, job.positions[number], job.samplings[text], job.resources)
    return departing(plan.activations(as_store(job.resources.store)))


def _at_rest(acts: Activations, resources: Resources, scratch: Store) -> Activations:
    """The same activations with their values on disk."""
    store, key = as_store(resources.store), acts.stored_as
    if key is None or store is None:
        store, key = scratch, {"layers": list(acts), "own": uuid.uuid4().hex}
        if not scratch.keep(key, dict(acts), acts.rows, acts.provenance):
            raise InputError(
                f"The activations of {acts.provenance['model']['model']} could not be written to {scratch.folder}. "
                "Give store= a folder with more room."
            )
    elif store.find(key, []) is None:
        arrived(acts, resources)  # says what to do
    return Activations(StoredLayers(store, key), acts.rows, acts.provenance, acts.stored_as)
