"""Layers over training: similarity to the end, to the step before or to another run, and effective rank."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.activations import Activations, Sampling, Store
from repsim_nb.activations.extraction import aligned
from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.layers import compare_activations
from repsim_nb.comparison.result import as_json
from repsim_nb.comparison.rows import check_sampled
from repsim_nb.comparison.sides import Layers, same_rows
from repsim_nb.errors import InputError, check_effect, named_arguments, nearest, unknown
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.registry import as_parameter
from repsim_nb.measures.single import effective_rank
from repsim_nb.models import Model, Packing, checkpoints, load_model
from repsim_nb.models.sending import check_sendable
from repsim_nb.system.executor import mapped, remembered
from repsim_nb.system.resources import Resources
from repsim_nb.uncertainty import Uncertainty

if TYPE_CHECKING:
    import xarray as xr

    from repsim_nb.corpora import Corpus

FINAL, PREVIOUS = "final", "previous"
Run = str | Mapping[int | str, Model | str]  # a name whose revisions are checkpoints, or step -> checkpoint


@named_arguments(as_parameter)
def over_training(
    model: Run,
    revisions: Sequence[str] | None = None,
    corpus: Corpus | str | Sequence[str] | None = None,
    measure: str | Measure = "cka",
    *,
    against: Run = FINAL,
    maps: bool = False,
    layers: Layers = "all",
    site: str = "resid_post",
    rows: str = "tokens",
    n_rows: int = 4096,
    rows_per_document: int | None = None,
    seed: int = 0,
    packing: str | Packing = "documents",
    null: str | int | None = None,
    interval: float | bool | None = None,
    groups: Sequence[Any] | np.ndarray | None = None,
    between_documents: bool = False,
    leave_out_first: int = 0,
    leave_out_norms: float | None = None,
    standardize: bool = False,
    remove_components: int = 0,
    store: Store | str | bool | None = None,
    memory_limit: int | None = None,
    batch_tokens: int | None = None,
    executor: Executor | None = None,
) -> xr.Dataset:
    """Compare every layer at training checkpoints with the final model, the step before or another run.

    One checkpoint is in memory at a time, and of what it is compared with only the activations.

    Parameters
    ----------
    model
        A name or hub id whose revisions are checkpoints; without a revision it is the final model. Alternatively a
        mapping step -> checkpoint (a model in memory, a folder or a name), whose last step is the final model.
    revisions
        Revisions that contain the step number, such as "step1000", in any order. None takes all of them
        (`models.checkpoints`); Pythia has 154, so choose a few.
    corpus, site, rows, n_rows, rows_per_document, seed, packing
        Text, place in the model and sampling of rows; see `Sampling`.
    measure
        As in `compare`.
    against
        "final" (default), "previous" (the checkpoint before; the first one has none and is absent), or another run,
        given as `model` is: each checkpoint is compared with the same revision of that run.
    maps
        Whether to keep the layer x layer map of every step, for `maps_of` and `CheckpointSlider`.
    layers
        "all", one layer or a list.
    null, interval, groups, between_documents
        As in `compare`. p-values are family-wise over all pairs of layers of one checkpoint.
    leave_out_first, leave_out_norms, standardize, remove_components
        As in `compare`, for the comparison only. Effective ranks use all rows.
    store, memory_limit, batch_tokens, executor
        Resources; see `system.resources.Resources`. The limit applies to each checkpoint. An executor runs checkpoints.
        With a store an interrupted call resumes: called again, it runs no model whose activations are stored.

    Returns
    -------
    xarray.Dataset
        Dims (step, layer), steps ascending: similarity of each layer to the same layer of the reference (also the name
        for a dissimilarity; see its attrs["direction"]) and effective_rank (`measures.single.effective_rank` of centred
        rows, from 1 to d_model). With a null or an interval also null_mean, null_high, null_high_family, p_value, low
        and high of similarity. The coordinates checkpoint and reference name the two models of each step. With maps
        also map, dims (step, layer_a, layer_b), and map_low and so on: what `maps_of` reads.

    Raises
    ------
    InputError
        If there are too few revisions, one has no step number, two have the same, or the two runs differ in layers or
        tokens; also whatever `load_model`, `extract` and `compare` raise.

    Notes
    -----
    The result describes one training run; claims about training need several seeds (see `convergence_over_seeds`).
    Effective rank depends on the number of rows: compare it only at equal `n_rows`, well above d_model. Intervals hold
    for each cell by itself. Similarity to the final model is 1 at the end by construction. With against="previous" and
    an executor but no store, a worker runs the checkpoint before its own again.

    Examples
    --------
    >>> course = over_training("tiny-neox-w32-d2", ["step0"], n_rows=200)
    >>> course.sizes["layer"]
    3
    """
    chosen = get_measure(measure)
    sampling = Sampling(corpus, site, rows, n_rows, rows_per_document, seed, packing)
    resources = Resources(store, memory_limit, batch_tokens, executor)
    uncertainty = Uncertainty(null, interval, groups, between_documents, seed)
    controls = Controls(leave_out_first, leave_out_norms, standardize, remove_components)
    check_sampled(chosen, uncertainty)
    own = _checkpoints(model, revisions)
    units = _pairs(model, own, against)
    check_sendable([each.model for unit in units for each in unit], resources.executor)
    previous = isinstance(against, str) and against == PREVIOUS
    job = _Course(previous, layers, chosen, sampling, uncertainty, controls, resources.alone)
    title = model if isinstance(model, str) else str(own[-1])
    found = mapped(_compared, job, units, resources.executor, what=title, unit="checkpoint", name=_pair_name)
    return _dataset(list(found), units, title, _named(against), maps)


def maps_of(course: xr.Dataset) -> dict[int, xr.DataArray]:
    """Get the layer x layer map of every step, as `compare` returns it.

    Parameters
    ----------
    course
        Result of `over_training` with maps=True.

    Returns
    -------
    dict
        Step -> DataArray (layer_a, layer_b), with null and interval if the course has them.

    Raises
    ------
    InputError
        If the course has no maps.

    Examples
    --------
    >>> course = over_training("tiny-neox-w32-d2", ["step0"], n_rows=200, maps=True)
    >>> maps_of(course)[0].dims
    ('layer_a', 'layer_b')
    """
    if "map" not in getattr(course, "data_vars", ()):
        raise InputError("This course has no maps. They are kept by over_training(..., maps=True).")
    found = {}
    for step in course.step.values.tolist():
        at = course.sel(step=step)
        grid = at["map"].reset_coords(drop=True).rename(at["map"].attrs["measure"])
        parts = [str(part).removeprefix("map_") for part in course.data_vars if str(part).startswith("map_")]
        more = {part: at[f"map_{part}"].variable for part in parts if part != "provenance"}
        about = {key: value for key, value in grid.attrs.items() if key != "measure"}
        about |= {"model_a": at.checkpoint.item(), "model_b": at.reference.item()}
        grid.attrs = about | {"provenance": at.map_provenance.item()}
        found[step] = grid.assign_coords(more)
    return found


@dataclass(frozen=True)
class _Checkpoint:
    """One checkpoint of a run; the step of its end is None."""

    step: int | None
    model: Any
    revision: str | None = None

    def __str__(self) -> str:
        if not isinstance(self.model, str | os.PathLike):
            return f"step {self.step}" if self.step is not None else "the end"
        return str(self.model) if self.revision is None else f"{self.model}@{self.revision}"


Unit = tuple[_Checkpoint, _Checkpoint]  # a checkpoint and what it is compared with


@dataclass(frozen=True)
class _Course:
    """What all checkpoints of a training run have in common."""

    previous: bool  # whether each checkpoint is what the next one is compared with
    layers: Layers
    measure: Measure
    sampling: Sampling
    uncertainty: Uncertainty
    controls: Controls
    resources: Resources

    def activations(self, checkpoint: _Checkpoint) -> Activations:
        """Activations of one checkpoint, whose model is let go."""
        model = load_model(checkpoint.model, revision=checkpoint.revision)
        sampling = remembered("sampling", partial(self.sampling.loaded, model.made_for))
        return aligned([model], [self.layers], sampling, self.resources)[0]


@dataclass(frozen=True)
class _Compared:
    """One checkpoint: its comparison with its reference, its effective ranks, and the provenance of both models."""

    result: xr.DataArray
    ranks: list[float]
    provenance: tuple[Any, Any]


def _compared(course: _Course, unit: Unit) -> _Compared:
    checkpoint, other = unit
    acts = course.activations(checkpoint)
    reference = remembered("reference", partial(course.activations, other), other.step)
    _check_alike(acts, reference, unit)
    result = compare_activations(
        [acts, reference], course.measure, course.uncertainty, course.controls, course.resources
    )
    if course.previous:
        remembered("reference", lambda: acts, checkpoint.step)
    ranks = [effective_rank(acts[layer]) for layer in acts]
    return _Compared(result, ranks, (acts.provenance["model"], reference.provenance["model"]))


def _check_alike(acts: Activations, reference: Activations, unit: Unit) -> None:
    if list(acts) != list(reference):
        raise InputError(
            f"{_pair_name(unit)} have the layers {list(acts)} and {list(reference)}; each layer is compared with the "
            "same layer. Pass layers that both have, such as layers=[0, 1]."
        )
    try:
        same_rows(acts, reference)
    except InputError as error:
        raise InputError(
            f"{_pair_name(unit)} have different rows, since their tokenizers or contexts differ. Compare such "
            "checkpoints with compare, which finds the places that both have."
        ) from error


def _pair_name(unit: Unit) -> str:
    return f"{unit[0]} and {unit[1]}"


def _named(against: Run) -> str:
    return against if isinstance(against, str) else "another run"


def _checkpoints(run: Run, revisions: Sequence[str] | None) -> list[_Checkpoint]:
    """The checkpoints of a run by ascending step."""
    if isinstance(run, Mapping):
        check_effect(over_training, {"revisions": revisions}, "the mapping already says which steps there are.")
        found = [_Checkpoint(step_of(step), given) for step, given in run.items()]
    else:
        names = _revisions(run) if revisions is None else [revisions] if isinstance(revisions, str) else list(revisions)
        found = [_Checkpoint(step_of(name), run, name) for name in names]
    if not found:
        raise InputError(f"{run} has no checkpoints. Pass revisions, or a model that has some (see checkpoints(name)).")
    found.sort(key=lambda each: each.step or 0)
    for one, other in pairwise(found):
        if one.step == other.step:
            raise InputError(f"{one} and {other} are both step {one.step}; give each step once.")
    return found


def _revisions(name: Any) -> list[str]:
    try:
        return checkpoints(name)
    except InputError as error:
        raise InputError(
            f'{error} Of a hub id or folder that is not in the catalogue pass revisions, such as ["step1000"].'
        ) from error


def _pairs(run: Run, own: list[_Checkpoint], against: Run) -> list[Unit]:
    """Each checkpoint with what it is compared with."""
    if isinstance(against, str) and against == FINAL:
        end = _Checkpoint(None, own[-1].model if isinstance(run, Mapping) else run)
        return [(each, end) for each in own]
    if isinstance(against, str) and against == PREVIOUS:
        if len(own) < 2:
            raise InputError(f'against="{PREVIOUS}" needs two checkpoints or more, got {own[0]} alone.')
        return [(later, earlier) for earlier, later in pairwise(own)]
    if isinstance(against, Mapping):
        others = {each.step: each for each in _checkpoints(against, None)}
        missing = [each.step for each in own if each.step not in others]
        if missing:
            raise InputError(f"The run that is compared with has no step {missing[0]}; it has {list(others)}.")
        return [(each, others[each.step]) for each in own]
    if not isinstance(against, str | os.PathLike):
        raise InputError(f'against={against!r}; expected "{FINAL}", "{PREVIOUS}" or another run.')
    if nearest(str(against), (FINAL, PREVIOUS), cutoff=0.8) and not os.path.exists(against):
        raise unknown("reference", against, (FINAL, PREVIOUS))
    if isinstance(run, Mapping):
        raise InputError(f"{against} is compared by its revisions, which a mapping lacks. Give against a mapping too.")
    return [(each, _Checkpoint(each.step, against, each.revision)) for each in own]


def _dataset(found: list[_Compared], units: list[Unit], title: str, against: str, maps: bool) -> xr.Dataset:
    """Join the comparisons along steps."""
    import xarray as xr

    first = found[0].result
    parts = {"": [each.result for each in found]}
    parts |= {str(part): [each.result[part] for each in found] for part in first.coords if part not in first.dims}
    shared = ("long_name", "direction", "lower_bound", "upper_bound", "n_rows", "coverage")
    about = {key: first.attrs[key] for key in shared if key in first.attrs} | {"measure": first.name}
    variables: dict[str, Any] = {}
    for part, grids in parts.items():
        values = np.stack([grid.values for grid in grids])
        words = about if not part else grids[0].attrs
        if values.ndim == 3:
            diagonal = np.diagonal(values, axis1=1, axis2=2)
            variables[part or "similarity"] = (("step", "layer"), diagonal, words)
        if maps:
            variables[f"map_{part}" if part else "map"] = (("step", *grids[0].dims), values, words)
    if maps:
        variables["map_provenance"] = ("step", [each.result.attrs["provenance"] for each in found])
    ranks = np.array([each.ranks for each in found])
    variables["effective_rank"] = (("step", "layer"), ranks, {"long_name": "effective rank"})
    along: dict[str, Any] = {"layer_a": first.layer_a.values, "layer_b": first.layer_b.values} if maps else {}
    for side, name in enumerate(("checkpoint", "reference")):
        along[name] = ("step", [each.result.attrs[f"model_{'ab'[side]}"] for each in found])
    made = {"checkpoints": [each.provenance[0] for each in found], "references": _distinct(found)}
    return xr.Dataset(
        variables,
        coords={"step": [unit[0].step for unit in units], "layer": first.layer_b.values.tolist(), **along},
        attrs={
            "model": title,
            "against": against,
            "provenance": as_json({"against": against, **made, **_common(first)}),
        },
    )


def _distinct(found: list[_Compared]) -> list[Any]:
    """The provenance of every reference, once."""
    every = [each.provenance[1] for each in found]
    return [one for place, one in enumerate(every) if one not in every[:place]]


def _common(result: xr.DataArray) -> dict[str, Any]:
    """The part of the provenance that all steps share."""
    made = json.loads(result.attrs["provenance"])
    made["uncertainty"] = {key: value for key, value in made.get("uncertainty", {}).items() if key != "null"}
    rows = {key: value for key, value in made.pop("a").items() if key != "model"}
    return {key: value for key, value in made.items() if key != "b"} | {"sampling": rows}


def step_of(revision: int | str) -> int:
    """The step that a revision names: the number after "step", or the only number in it."""
    if isinstance(revision, int | np.integer) and not isinstance(revision, bool) and revision >= 0:
        return int(revision)
    text = str(revision)
    found = re.findall(r"step[-_ ]?(\d+)(k?)", text, re.IGNORECASE) or re.findall(r"(\d+)(k?)", text)
    if len(found) != 1:
        what = "no step number" if not found else "several numbers"
        raise InputError(f"The revision {revision!r} contains {what}; expected a name such as step1000.")
    number, thousands = found[0]
    return int(number) * (1000 if thousands else 1)
