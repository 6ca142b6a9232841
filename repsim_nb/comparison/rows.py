"""Activations with equal rows: their grid of values under a measure, with null and interval."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.activations import Activations
from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.result import as_json, labelled
from repsim_nb.comparison.sides import matrices, same_rows
from repsim_nb.errors import InputError
from repsim_nb.measures import Measure
from repsim_nb.measures.registry import Prepared
from repsim_nb.system.memory import limit_bytes, most_rows, readable_size
from repsim_nb.uncertainty import (
    LEVEL,
    Documents,
    Grids,
    LinearCKA,
    Null,
    Recomputed,
    Spread,
    Uncertainty,
    calibrated,
    closed_form,
    jackknife_grid,
    max_statistic,
)
from repsim_nb.uncertainty.grids import of_rows
from repsim_nb.uncertainty.jackknife import BLOCKS

if TYPE_CHECKING:
    import xarray as xr
    from torch import Tensor

MIN_BLOCKS = 5  # minimum number of documents for an interval


@dataclass(frozen=True)
class Side:
    """One model's layers, as tensors."""

    name: str
    acts: Mapping[int, Any]
    tensors: list[Tensor]
    ready: Sequence[Prepared] = ()

    def prepared(self, measure: Measure) -> Side:
        """Precompute what the measure can do on every layer alone."""
        layers = zip(self.acts, self.tensors, strict=True)
        return replace(self, ready=[measure.prepare(x, f"layer {layer} of {self.name}") for layer, x in layers])


@dataclass(frozen=True)
class Rows:
    """Sides of equal rows after the controls, and the document of each row.

    Attributes
    ----------
    sides
        One, two or many sides.
    documents
        Documents of the remaining rows.
    kept
        Mask of the rows that the controls kept, bool (n_rows,); None without controls.
    """

    sides: list[Side]
    documents: Documents
    kept: np.ndarray | None = None

    @classmethod
    def of(cls, sides: Mapping[str, Mapping[int, Any]], groups: Any, controls: Controls) -> Rows:
        """Build from activations by name; extracted ones must have the same rows."""
        for one, other in pairwise([acts for acts in sides.values() if isinstance(acts, Activations)]):
            same_rows(one, other)
        kept = None
        if controls:
            done, kept = controls.applied(*sides.values())
            sides = dict(zip(sides, done, strict=True))
            groups = None if groups is None else of_rows({"groups": groups}, kept)["groups"]
        own = [Side(name, acts, matrices(acts, name)) for name, acts in sides.items()]
        return cls(own, _documents(list(sides.values()), groups, len(own[0].tensors[0])), kept)

    def measure(self, given: Measure, between_documents: bool) -> Measure:
        """The measure for the remaining rows, without within-document pairs if `between_documents`."""
        measure = given if self.kept is None else given.configured(**of_rows(given.params, self.kept))
        if not between_documents:
            return measure
        if "groups" not in measure.params:
            raise InputError(
                f"between_documents=True needs a measure with the parameter groups; {measure.name} has none."
            )
        if len(self.documents) == self.documents.n:  # every row is a document of its own
            return measure
        return measure.configured(groups=self.documents.codes)

    def grid(
        self, a: Side, b: Side, measure: Measure, uncertainty: Uncertainty, executor: Executor | None = None
    ) -> xr.DataArray:
        """The labelled result for two prepared sides; an executor runs permutations and blocks."""
        values, errors = measure.grid_with_errors(a.ready, b.ready)
        how = {} if errors is None else {"estimator": "sampled pairs of rows"}
        result = labelled(values, measure, a.acts, b.acts, uncertainty.between_documents, **how)
        if errors is not None:
            return result.assign_coords(standard_error=(result.dims, errors))
        if not uncertainty.resampled:
            return result
        spread = Spread(self.grids(a, b, measure), executor)
        return _with_uncertainty(result, measure, spread, self.documents, uncertainty)

    def grids(self, a: Side, b: Side, measure: Measure) -> Grids:
        """What gives the grids of two prepared sides after documents are permuted or left out."""
        if LinearCKA.suits(a.ready, b.ready, self.documents):
            return LinearCKA(a.ready, b.ready, self.documents)
        return Recomputed(measure, a.tensors, b.tensors, self.documents)

    def without_sides(self) -> Rows:
        """The same rows without the activations, to travel beside single pairs of them."""
        return replace(self, sides=[])


def check_sampled(measure: Measure, uncertainty: Uncertainty) -> None:
    """Raise if a measure that samples pairs of rows is asked for another uncertainty than its own."""
    if uncertainty and getattr(measure, "fast", False):
        raise InputError(
            f"{measure.name} with fast=True comes with its own standard error. Leave out null, interval and "
            "between_documents, or leave out fast."
        )


def check_memory(
    measure: Measure,
    sides: Sequence[Sequence[Tensor]],
    given: int | None,
    uncertainty: Uncertainty = Uncertainty(),  # noqa: B008
) -> None:
    """Raise if the work on one or two sides exceeds the memory limit."""
    times = 2 if uncertainty.resampled else 1  # copies of the prepared layers in memory
    limit, n = limit_bytes(given), len(sides[0][0])
    widths = [[x.shape[1] for x in side] for side in sides]

    def needed(rows: int) -> int:
        return times * measure.memory(rows, *widths)

    if limit is not None and needed(n) > limit:
        most = most_rows(needed, n, limit)
        fewer = f"Use at most {most:,} rows" if most else "Use fewer rows"
        raise InputError(
            f"{measure.name} of {n:,} rows needs {readable_size(needed(n))} of working memory; the limit is "
            f"{readable_size(limit)}. {fewer}, fewer layers, or raise memory_limit."
        )


def _documents(sides: Sequence[Mapping[int, Any]], groups: Any, n: int) -> Documents:
    known = next((acts for acts in sides if isinstance(acts, Activations)), None)
    return Documents(known.rows["document"].to_numpy() if groups is None and known is not None else groups, n)


def _with_uncertainty(
    result: xr.DataArray, measure: Measure, grids: Spread, documents: Documents, uncertainty: Uncertainty
) -> xr.DataArray:
    """Add null and interval as coordinates, and how they were computed to the provenance."""
    coordinates: dict[str, tuple[np.ndarray, str]] = {}
    how: dict[str, Any] = {"documents": len(documents), "seed": uncertainty.seed}
    if uncertainty.permutations or uncertainty.in_closed_form:
        null, made = _null(result.values, measure, grids, documents, uncertainty)
        side = "reach or exceed" if measure.direction == "similarity" else "reach or fall below"
        way = "Sidak" if uncertainty.in_closed_form else "the max statistic"
        family = f"family-wise over {result.size} cells, by {way}"
        coordinates |= {
            "null_mean": (null.mean, "mean over exchanges of documents"),
            "null_high": (null.high, f"what {LEVEL:.0%} of exchanges of documents {side} in this cell by itself"),
            "null_high_family": (null.high_family, f"what {LEVEL:.0%} of exchanges of documents {side} in any cell"),
            "p_value": (null.p_value, family),
        }
        how["null"] = {**made, "p_value": family, "rows_exchanged": documents.moving, "high_most": null.high_most}
        bound = measure.bounds[1]
        if measure.direction == "similarity" and np.isfinite(bound):
            text = f"what exceeds {1 - LEVEL:.0%} of exchanges of documents, as a share of what could"
            coordinates["calibrated"] = (calibrated(result.values, null.high, bound), text)
            most = calibrated(result.values.max(), null.high_most, bound)
            result = result.assign_coords(
                calibrated_most=((), most, {"long_name": f"largest value of the map: {text}"})
            )
    level = uncertainty.level
    if level:
        if len(documents) < MIN_BLOCKS:
            raise InputError(f"An interval needs at least {MIN_BLOCKS} documents; there are {len(documents)}.")
        blocks = documents.blocks(BLOCKS, uncertainty.seed)
        ends = jackknife_grid(result.values, grids.without(blocks), measure.bounds, level)
        text = f"end of the {level:.4g} jackknife interval over documents, for each cell by itself"
        coordinates |= {"low": (ends.low, f"lower {text}"), "high": (ends.high, f"upper {text}")}
        how["interval"] = {"level": level, "kind": "delete-a-group jackknife", "blocks": int(blocks.max()) + 1}
    result = result.assign_coords(
        {name: (result.dims, values, {"long_name": text}) for name, (values, text) in coordinates.items()}
    )
    result.attrs["provenance"] = as_json(json.loads(result.attrs["provenance"]), {"uncertainty": how})
    return result


def _null(
    values: np.ndarray, measure: Measure, grids: Spread, documents: Documents, uncertainty: Uncertainty
) -> tuple[Null, dict[str, Any]]:
    """Compute the requested null, and its entry in the provenance."""
    documents.check_exchangeable()
    count = uncertainty.permutations
    if count is not None:
        arrangements = documents.arrangements(count, uncertainty.seed)
        null = max_statistic(values, grids.permuted(arrangements, count), measure)
        return null, {"kind": "permutation", "permutations": count}
    if not isinstance(grids.of, LinearCKA):
        raise InputError(
            f'null="moments" needs linear CKA with more rows than the features of all layers together. Use '
            f'null="permutation" for {measure.name} here.'
        )
    return closed_form(values, grids.of), {"kind": "moments"}
