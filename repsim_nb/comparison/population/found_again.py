"""A whole result of `compare_models`, found again by the files of its models, none of which is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.activations import Store
from repsim_nb.activations.store import code_sha256
from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.population.roster import Roster
from repsim_nb.comparison.result import recorded_params
from repsim_nb.measures import Measure
from repsim_nb.models.content import content_sha256
from repsim_nb.system.netcdf import netcdf_bytes
from repsim_nb.system.versions import versions
from repsim_nb.uncertainty import Uncertainty

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 1  # increase when the content of a stored result changes
CODE = ("models", "corpora", "activations", "measures", "uncertainty", "comparison")


def key_of(
    population: Roster, measures: Sequence[Measure], uncertainty: Uncertainty, controls: Controls
) -> dict[str, Any] | None:
    """Everything that the result depends on; None if it is not all known without loading a model."""
    if len(population.shapes) < len(population.given) or uncertainty.groups is not None:
        return None
    contents = [content_sha256(given.what) for given in population.given]
    if None in contents:
        return None
    names = [
        given.name or shape.name for given, shape in zip(population.given, population.shapes.values(), strict=True)
    ]
    import torch

    samplings = population.texts.items()
    return {
        "format": FORMAT,
        "models": list(zip(names, contents, strict=True)),
        "texts": [
            [name, s.text.provenance, {k: v for k, v in asdict(replace(s, corpus=None)).items() if k != "corpus"}]
            for name, s in samplings
        ],
        "layers": population.choice.asked,
        "measures": [[measure.name, recorded_params(measure)] for measure in measures],
        "uncertainty": [uncertainty.null, uncertainty.between_documents, uncertainty.seed],
        "controls": asdict(controls),
        "gpu": torch.cuda.is_available(),
        "versions": versions(),
        "code": code_sha256(CODE),
    }


def find_again(store: Store, key: dict[str, Any]) -> xr.Dataset | None:
    """The result stored under a key, or None."""
    import xarray as xr

    found = store.find_result(key)
    if found is None:
        return None
    with xr.open_dataset(BytesIO(found["netcdf"].tobytes()), engine="h5netcdf") as result:
        return result.load()


def keep(store: Store, key: dict[str, Any], result: xr.Dataset) -> None:
    """Store a result."""
    store.keep_result(key, {"netcdf": np.frombuffer(netcdf_bytes(result), np.uint8)})
