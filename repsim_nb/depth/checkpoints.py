"""Layers over training: similarity to the final model and effective rank at every checkpoint."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.activations import Activations, Sampling, Store
from repsim_nb.activations.extraction import aligned
from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.layers import compare_activations
from repsim_nb.comparison.result import as_json
from repsim_nb.comparison.rows import check_sampled
from repsim_nb.comparison.sides import Layers
from repsim_nb.errors import InputError, named_arguments
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.registry import as_parameter
from repsim_nb.measures.single import effective_rank
from repsim_nb.models import Packing, checkpoints, load_model
from repsim_nb.system.executor import mapped, remembered
from repsim_nb.system.resources import Resources
from repsim_nb.uncertainty import Uncertainty

if TYPE_CHECKING:
    import xarray as xr

    from repsim_nb.corpora import Corpus


@named_arguments(as_parameter)
def over_training(
    model: str,
    revisions: Sequence[str] | None = None,
    corpus: Corpus | str | Sequence[str] | None = None,
    measure: str | Measure = "cka",
    *,
    layers: Layers = "all",
    site: str = "resid_post",
    rows: str = "tokens",
    n_rows: int = 4096,
    rows_per_document: int | None = None,
    seed: int = 0,
    packing: str | Packing = "documents",
    null: str | int | None = None,
    interval: float | bool | None = None,
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
    """Compare every layer at training checkpoints with the final model, and measure its effective rank.

    Checkpoints are loaded one after the other; only the activations of the final model are kept.

    Parameters
    ----------
    model
        A name or hub id whose revisions are checkpoints; without a revision it is the final model.
    revisions
        Revisions that contain the step number, such as "step1000". None takes all of them (`models.checkpoints`);
        Pythia has 154, so choose a few.
    corpus, site, rows, n_rows, rows_per_document, seed, packing
        Text, place in the model and sampling of rows; see `Sampling`.
    measure
        As in `compare`.
    layers
        "all", one layer or a list.
    null, interval, between_documents
        As in `compare`. p-values are family-wise over all pairs of layers of one checkpoint.
    leave_out_first, leave_out_norms, standardize, remove_components
        As in `compare`, for the comparison only. Effective ranks use all rows.
    store, memory_limit, batch_tokens, executor
        Resources; see `system.resources.Resources`. The limit applies to each checkpoint. An executor runs checkpoints.

    Returns
    -------
    xarray.Dataset
        Dims (step, layer): similarity_to_final (also the name for a dissimilarity; see attrs["direction"]) and
        effective_rank (`measures.single.effective_rank` of centred rows, from 1 to d_model). With a null or an
        interval also null_mean, null_high, null_high_family, p_value, low and high of similarity_to_final.

    Raises
    ------
    InputError
        If there are no revisions or one has no step number; also whatever `load_model`, `extract` and `compare` raise.

    Notes
    -----
    The result describes one training run; claims about training need several seeds. Effective rank depends on the
    number of rows: compare it only at equal `n_rows`, well above d_model. Intervals hold for each cell by itself.

    Examples
    --------
    >>> course = over_training("tiny-neox-w32-d2", ["step0"], n_rows=200)
    >>> course.sizes["layer"]
    3
    """
    import xarray as xr

    chosen = get_measure(measure)
    sampling = Sampling(corpus, site, rows, n_rows, rows_per_document, seed, packing)
    resources = Resources(store, memory_limit, batch_tokens, executor)
    uncertainty = Uncertainty(null, interval, None, between_documents, seed)
    controls = Controls(leave_out_first, leave_out_norms, standardize, remove_components)
    check_sampled(chosen, uncertainty)
    names = checkpoints(model) if revisions is None else list(revisions)
    steps = [_step(name) for name in names]
    if not names:
        raise InputError(
            f"{model} has no checkpoints. Pass revisions, or a model that has some (see checkpoints(name))."
        )
    job = _Course(model, layers, chosen, sampling, uncertainty, controls, resources.alone)
    found = list(mapped(_at_checkpoint, job, names, resources.executor, what=model, unit="checkpoint"))
    result, end = found[-1].result, found[-1].final
    by_part: dict[str, np.ndarray] = {}
    for place, each in enumerate(found):
        for part, values in {"similarity_to_final": each.result, **each.result.coords}.items():
            if values.ndim == 2:
                by_part.setdefault(str(part), np.empty((len(names), len(values))))[place] = np.diag(values)
    ranks = np.array([each.ranks for each in found])
    made = [each.provenance for each in found]
    order = np.argsort(steps, kind="stable")
    dims = ("step", "layer")
    about = {k: result.attrs[k] for k in ("long_name", "direction", "lower_bound", "upper_bound") if k in result.attrs}
    titles = {part: about if part == "similarity_to_final" else result[part].attrs for part in by_part}
    return xr.Dataset(
        {
            **{part: (dims, values[order], titles[part]) for part, values in by_part.items()},
            "effective_rank": (dims, ranks[order], {"long_name": "effective rank"}),
        },
        coords={"step": np.array(steps)[order], "layer": result.layer_b.values.tolist()},
        attrs={"model": model, "provenance": as_json({"final": end, "checkpoints": made})},
    )


@dataclass(frozen=True)
class _Course:
    """What all checkpoints of a training run have in common."""

    model: str
    layers: Layers
    measure: Measure
    sampling: Sampling
    uncertainty: Uncertainty
    controls: Controls
    resources: Resources

    def final(self) -> tuple[Sampling, Activations]:
        """The sampling with its corpus, and the activations of the final model."""
        model = load_model(self.model)
        sampling = self.sampling.loaded(model.made_for)
        return sampling, aligned([model], [self.layers], sampling, self.resources)[0]


@dataclass(frozen=True)
class _Checkpoint:
    """One checkpoint: its comparison with the final model, effective ranks, and the provenance of both."""

    result: xr.DataArray
    ranks: list[float]
    provenance: Any
    final: Any


def _at_checkpoint(course: _Course, revision: str) -> _Checkpoint:
    sampling, end = remembered("final", course.final)
    model = load_model(course.model, revision=revision)
    (acts,) = aligned([model], [course.layers], sampling, course.resources)
    result = compare_activations([acts, end], course.measure, course.uncertainty, course.controls, course.resources)
    ranks = [effective_rank(acts[layer]) for layer in acts]
    return _Checkpoint(result, ranks, acts.provenance["model"], end.provenance)


def _step(revision: str) -> int:
    found = re.search(r"\d+", revision)
    if not found:
        raise InputError(f"The revision {revision!r} contains no step number; expected a name such as step1000.")
    return int(found.group())
