"""Layers over training: when they become what they end as, and how many dimensions they use on the way."""

from __future__ import annotations

import re
from collections.abc import Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.activations import extract
from repsim_nb.activations.extraction import as_json
from repsim_nb.comparison.layers import compare
from repsim_nb.corpora import Corpus, load_corpus
from repsim_nb.errors import InputError
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.single import effective_rank
from repsim_nb.models import checkpoints, load_model
from repsim_nb.system.progress import steps as watched_steps

if TYPE_CHECKING:
    import xarray as xr


def over_training(
    model: str,
    revisions: Sequence[str] | None = None,
    corpus: Corpus | str | Sequence[str] | None = None,
    measure: str | Measure = "cka",
    *,
    n_rows: int = 2048,
    seed: int = 0,
    **measure_params: Any,
) -> xr.Dataset:
    """Every layer at checkpoints of training: how alike it is to what it ends as, and its effective rank.

    Checkpoints are loaded one after the other; the activations of the final model alone are kept. Rows are tokens of
    the residual stream, at all layers.

    Args:
        model: a name or hub id whose revisions are checkpoints; without one it names the final model.
        revisions: names with a number of steps in them, as in "step1000"; None takes all that there are
            (`models.checkpoints`): those of Pythia are 154, so name some.
        corpus, n_rows, seed: as in `extract`.
        measure, measure_params: as in `compare`, of which no other argument is taken.

    Returns:
        Dataset with dims (step, layer): similarity_to_final (named so for a dissimilarity too; see attrs["direction"])
        and effective_rank (`measures.single.effective_rank`, of centred rows; from 1 to d_model).

    Raises:
        InputError: no revisions, one without a number of steps, an argument that is no parameter of the measure, or
            what `load_model`, `extract` and `compare` raise.
    """
    import xarray as xr

    measure = _configured(measure, measure_params)
    names = checkpoints(model) if revisions is None else list(revisions)
    steps = [_step(name) for name in names]
    if not names:
        raise InputError(
            f"{model} has no checkpoints. Give revisions, or a model for which checkpoints(name) has some."
        )
    final = load_model(model)
    texts = load_corpus(final.made_for if corpus is None else corpus)
    end = extract(final, texts, n_rows=n_rows, seed=seed)
    alike, ranks = np.empty((2, len(names), len(end)))
    made = []
    for place, name in enumerate(watched_steps(names, model, "checkpoint")):
        acts = extract(load_model(model, revision=name), texts, n_rows=n_rows, seed=seed)
        result = compare(acts, end, measure=measure)
        alike[place] = np.diag(result)
        ranks[place] = [effective_rank(acts[layer]) for layer in acts]
        made.append(acts.provenance["model"])
    order = np.argsort(steps, kind="stable")
    dims = ("step", "layer")
    about = {k: result.attrs[k] for k in ("long_name", "direction", "lower_bound", "upper_bound") if k in result.attrs}
    return xr.Dataset(
        {
            "similarity_to_final": (dims, alike[order], about),
            "effective_rank": (dims, ranks[order], {"long_name": "effective rank"}),
        },
        coords={"step": np.array(steps)[order], "layer": list(end)},
        attrs={"model": model, "provenance": as_json({"final": end.provenance, "checkpoints": made})},
    )


def _configured(measure: str | Measure, params: dict[str, Any]) -> Measure:
    """The measure; an InputError for arguments of `compare` that would have no effect here."""
    idle = [name for name in params if name in signature(compare).parameters]
    if idle:
        raise InputError(
            f"over_training does not take {', '.join(f'{name}=' for name in idle)}: it reads all layers of the "
            "residual stream at tokens, and takes corpus, n_rows, seed and parameters of the measure. Leave it out, or "
            "call compare for each checkpoint."
        )
    return get_measure(measure, **params)


def _step(revision: str) -> int:
    found = re.search(r"\d+", revision)
    if not found:
        raise InputError(f"The revision {revision!r} names no step; expected one such as step1000.")
    return int(found.group())
