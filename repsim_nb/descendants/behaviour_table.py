"""Losses and divergences of base, descendant and swapped parts, as means with intervals over documents."""

from __future__ import annotations

from typing import Any

import numpy as np

from repsim_nb.descendants.carriers import Behaviour
from repsim_nb.descendants.how_far import draws_of, ratios


def behaviour_variables(found: Behaviour, level: float, seed: int, causal: bool) -> dict[str, tuple[Any, ...]]:
    """Variables of an xarray.Dataset: single numbers, over part, and sums over document.

    Intervals are percentile bootstraps over documents, of differences within the same documents.
    """
    unit = f"nats per {'token' if causal else 'example'}"
    n = found.predictions
    drawn = draws_of(len(n), seed)

    def with_interval(name: str, sums: np.ndarray, text: str) -> dict[str, tuple[Any, ...]]:
        dims = ("part",) if sums.ndim == 2 else ()
        lines = np.atleast_2d(sums)
        ends = np.array([np.quantile(ratios(drawn, x, n), [(1 - level) / 2, (1 + level) / 2]) for x in lines])
        about = {"long_name": text, "units": unit}
        shaped = (lambda values: values) if dims else (lambda values: values[0])
        return {
            name: (dims, shaped(lines.sum(1) / n.sum()), about),
            f"{name}_low": (dims, shaped(ends[:, 0])),
            f"{name}_high": (dims, shaped(ends[:, 1])),
        }

    return {
        "base_loss": ((), found.base.sum() / n.sum(), {"long_name": "loss of the base", "units": unit}),
        "tuned_loss": ((), found.tuned.sum() / n.sum(), {"long_name": "loss of the descendant", "units": unit}),
        **with_interval("loss_change", found.tuned - found.base, "change of the loss"),
        **with_interval("divergence", found.divergence, "divergence of the descendant's predictions from the base's"),
        **with_interval("loss_into", found.into - found.base, "change of the base's loss by a part of the descendant"),
        **with_interval("loss_back", found.back - found.tuned, "change of the descendant's loss by a part of the base"),
        **with_interval("divergence_into", found.into_divergence, "divergence by one part of the descendant"),
        **with_interval("divergence_back", found.back_divergence, "divergence by one part of the base"),
        "document_predictions": ("document", n),
        "document_base_loss": ("document", found.base, {"long_name": "summed loss of the base", "units": "nats"}),
        "document_tuned_loss": (
            "document",
            found.tuned,
            {"long_name": "summed loss of descendant", "units": "nats"},
        ),
        "document_divergence": ("document", found.divergence, {"long_name": "summed divergence", "units": "nats"}),
        "_documents": ("document", found.documents),
    }
