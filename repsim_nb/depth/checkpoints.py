"""Layers over training: when they become what they end as, and how many dimensions they use on the way."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.activations import Sampling, Store
from repsim_nb.activations.extraction import aligned
from repsim_nb.comparison import compare
from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.result import as_json
from repsim_nb.comparison.sides import Layers
from repsim_nb.errors import InputError, named_arguments
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.registry import as_parameter
from repsim_nb.measures.single import effective_rank
from repsim_nb.models import Packing, checkpoints, load_model
from repsim_nb.system.progress import steps as watched_steps
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
) -> xr.Dataset:
    """Every layer at checkpoints of training: how alike it is to what it ends as, and its effective rank.

    Checkpoints are loaded one after the other; the activations of the final model alone are kept.

    Parameters
    ----------
    model
        A name or hub id whose revisions are checkpoints; without a revision it names the final model.
    revisions
        Names with a number of steps in them, as in "step1000"; None takes all that there are (`models.checkpoints`):
        those of Pythia are 154, so name some.
    corpus, site, rows, n_rows, rows_per_document, seed, packing
        Which rows of which text, see `Sampling`.
    measure
        As in `compare`.
    layers
        "all", a position or several.
    null, interval, between_documents
        As in `compare`. p-values are family-wise over all pairs of layers of one checkpoint.
    leave_out_first, leave_out_norms, standardize, remove_components
        As in `compare`; of the comparison alone. Effective ranks are those of all rows.
    store, memory_limit, batch_tokens
        What may be used, see `system.resources.Resources`; the limit is for each checkpoint.

    Returns
    -------
    xarray.Dataset
        Dims (step, layer): similarity_to_final (named so for a dissimilarity too; see attrs["direction"]) and
        effective_rank (`measures.single.effective_rank`, of centred rows; from 1 to d_model). With a null or an
        interval also null_mean, null_high, null_high_family, p_value, low and high of similarity_to_final.

    Raises
    ------
    InputError
        No revisions, one without a number of steps, or what `load_model`, `extract` and `compare` raise.

    Notes
    -----
    Of one training run. Another seed may take another way: what is said of training needs several runs.

    Examples
    --------
    >>> course = over_training("tiny-neox-w32-d2", ["step0"], n_rows=200)
    >>> course.sizes["layer"]
    3
    """
    import xarray as xr

    chosen = get_measure(measure)
    sampling = Sampling(corpus, site, rows, n_rows, rows_per_document, seed, packing)
    resources = Resources(store, memory_limit, batch_tokens)
    how: dict[str, Any] = {"null": null, "interval": interval, "between_documents": between_documents}
    how |= {"leave_out_first": leave_out_first, "leave_out_norms": leave_out_norms, "standardize": standardize}
    how |= {"remove_components": remove_components, "memory_limit": memory_limit}
    if Uncertainty(null, interval, None, between_documents, seed).resampled:
        how["seed"] = seed
    Controls(leave_out_first, leave_out_norms, standardize, remove_components)  # raises before anything is run
    names = checkpoints(model) if revisions is None else list(revisions)
    steps = [_step(name) for name in names]
    if not names:
        raise InputError(
            f"{model} has no checkpoints. Give revisions, or a model for which checkpoints(name) has some."
        )
    final = load_model(model)
    sampling = sampling.loaded(final.made_for)
    (end,) = aligned([final], [layers], sampling, resources)
    alike: dict[str, np.ndarray] = {}
    ranks = np.empty((len(names), len(end)))
    made = []
    for place, name in enumerate(watched_steps(names, model, "checkpoint")):
        (acts,) = aligned([load_model(model, revision=name)], [layers], sampling, resources)
        result = compare(acts, end, measure=chosen, **how)
        for part, values in {"similarity_to_final": result, **result.coords}.items():
            if values.ndim == 2:
                alike.setdefault(str(part), np.empty_like(ranks))[place] = np.diag(values)
        ranks[place] = [effective_rank(acts[layer]) for layer in acts]
        made.append(acts.provenance["model"])
    order = np.argsort(steps, kind="stable")
    dims = ("step", "layer")
    about = {k: result.attrs[k] for k in ("long_name", "direction", "lower_bound", "upper_bound") if k in result.attrs}
    titles = {part: about if part == "similarity_to_final" else result[part].attrs for part in alike}
    return xr.Dataset(
        {
            **{part: (dims, values[order], titles[part]) for part, values in alike.items()},
            "effective_rank": (dims, ranks[order], {"long_name": "effective rank"}),
        },
        coords={"step": np.array(steps)[order], "layer": list(end)},
        attrs={"model": model, "provenance": as_json({"final": end.provenance, "checkpoints": made})},
    )


def _step(revision: str) -> int:
    found = re.search(r"\d+", revision)
    if not found:
        raise InputError(f"The revision {revision!r} names no step; expected one such as step1000.")
    return int(found.group())
