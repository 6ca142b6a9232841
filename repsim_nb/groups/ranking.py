"""Whether models that are less alike also differ more in accuracy: rank correlations, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.groups.extremes import check_accuracy
from repsim_nb.groups.pairs import read_pairs
from repsim_nb.groups.permutations import orders, p_values, standardised

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

RESAMPLES = 1000  # of models
DECIMALS = 12  # of gaps in accuracy: 0.7 - 0.4 and 0.4 - 0.1 are the same gap


def rank_correlation(
    dissimilarity: xr.DataArray,
    accuracy: pd.Series,
    reference: str = "best",
    n_permutations: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Rank correlation of a model's dissimilarity to a reference with their gap in accuracy, layer by layer.

    The gap is the absolute difference of accuracies. The p-value permutes accuracies among the models that are no
    reference; with every model a reference in turn it permutes whole models (a Mantel test). The interval draws the
    other models, or with "each" all models, with replacement; no model is ever compared with its own copy.

    Parameters
    ----------
    dissimilarity
        Layer x model x model, see `repsim_nb.groups`.
    accuracy
        Model -> accuracy, in any unit, of at least four models; models without one are left out.
    reference
        "best" (the first of those with the highest accuracy), the name of a model, or "each": every model in turn,
        correlations averaged.
    n_permutations
        Orders of the models to try; all are where there are no more than that.
    level
        Coverage of the interval of each line by itself.
    seed
        Seed of permutations and intervals.

    Returns
    -------
    pandas.DataFrame
        DataFrame by layer and a last line "mean", for the average of the correlations over layers: spearman and kendall
        (tau-b) in [-1, 1], low and high of spearman, p_value in (0, 1] one-sided (spearman above 0), of the line alone,
        p_adjusted, family-wise over layers by the largest standardised spearman. "mean" is one test by itself, its
        p_adjusted is its p_value. Where the dissimilarities to a reference are all the same there is no correlation:
        such layers are named in attrs["undefined"], missing in the table and left out of the mean.

    Raises
    ------
    InputError
        An array that is not of layers and twice the same models, or lacks a value or a model; an accuracy that is
        missing; fewer than four models; gaps to a reference that are all the same; no layer with a correlation; an
        unknown reference; fewer than 19 permutations.

    References
    ----------
    Ding, Denain and Steinhardt 2021, "Grounding representation similarity with statistical testing", arXiv 2108.01661;
    Mantel 1967.
    """
    import pandas as pd

    check_accuracy(accuracy)
    if len(accuracy) < 4:
        raise InputError(f"A rank correlation needs at least four models; {len(accuracy)} have an accuracy.")
    layers, models, values = read_pairs(dissimilarity, accuracy.index)
    value = accuracy[models].to_numpy(np.float64)
    gaps = np.round(np.abs(value[:, None] - value), DECIMALS)
    at = _references(accuracy, models, reference)
    compared = _Compared(values, gaps, at)
    undefined = compared.undefined
    if undefined.all():
        raise InputError("There is no rank correlation: dissimilarities to a reference are the same in every layer.")
    rng = np.random.default_rng(seed)
    compared = _Compared(values[~undefined], gaps, at)
    permuted, drawn = compared.permuted(n_permutations, rng), compared.resampled(rng)
    permuted, drawn = (np.column_stack([x, x.mean(1)]) for x in (permuted, drawn))
    kendall = compared.kendall()
    scores = standardised(permuted, np.ones(permuted.shape[1]))
    p_value, _ = p_values(scores)
    _, p_adjusted = p_values(scores[:, :-1])
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    table = pd.DataFrame(
        {
            "spearman": permuted[0],
            "kendall": [*kendall, kendall.mean()],
            "low": low,
            "high": high,
            "p_value": p_value,
            "p_adjusted": [*p_adjusted, p_value[-1]],
        },
        index=[*np.flatnonzero(~undefined), len(layers)],
    ).reindex(range(len(layers) + 1))
    table.index = pd.Index([*layers, "mean"], name="layer")
    table.attrs["undefined"] = [layer for layer, none in zip(layers, undefined, strict=True) if none]
    return table


def rank_measures(
    dissimilarities: Mapping[str, xr.DataArray],
    accuracy: pd.Series,
    reference: str = "best",
    n_permutations: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Measures by how well their dissimilarities rank models by their gap in accuracy, the best first.

    Parameters
    ----------
    dissimilarities
        Measure -> its dissimilarities, as in `rank_correlation`; so are all other arguments.

    Returns
    -------
    pandas.DataFrame
        DataFrame by measure: spearman, kendall, low, high and p_value of the mean over layers; best_layer and
        best_spearman, of the layer with the highest. p_value is of the measure alone, not corrected for the number of
        measures, and best_spearman was chosen by its size: `rank_correlation` has its corrected p-value.

    Raises
    ------
    InputError
        As `rank_correlation`; no measure.
    """
    import pandas as pd

    if not dissimilarities:
        raise InputError("There is no measure to rank; give the dissimilarities of at least one.")
    lines = {}
    for name, dissimilarity in dissimilarities.items():
        table = rank_correlation(dissimilarity, accuracy, reference, n_permutations, level, seed)
        by_layer = table.spearman.iloc[:-1]
        best = int(np.nanargmax(by_layer))
        mean = table.iloc[-1][["spearman", "kendall", "low", "high", "p_value"]]
        lines[name] = {**mean, "best_layer": by_layer.index[best], "best_spearman": by_layer.iloc[best]}
    ranked = pd.DataFrame.from_dict(lines, orient="index").rename_axis("measure")
    return ranked.sort_values("spearman", ascending=False, kind="stable")


def _references(accuracy: pd.Series, models: list[str], reference: str) -> np.ndarray:
    """Places of the references among models."""
    if reference == "each":
        return np.arange(len(models))
    name = accuracy.idxmax() if reference == "best" else reference
    if name not in models:
        raise InputError(f'Unknown reference {reference!r}: expected "best", "each" or a model with an accuracy.')
    return np.array([models.index(name)])


class _Compared(NamedTuple):
    """Dissimilarities (layers, models, models), gaps (models, models), and which models are references."""

    values: np.ndarray
    gaps: np.ndarray
    references: np.ndarray

    @property
    def undefined(self) -> np.ndarray:
        """Layers where a reference has no correlation, (layers,) of bool."""
        x, y = self._ranks(self.references, np.arange(len(self.gaps)))
        if np.isnan(y).any():
            raise InputError("There is no rank correlation: gaps in accuracy to a reference are all the same.")
        return np.isnan(x).any((1, 2))

    def permuted(self, n_permutations: int, rng: np.random.Generator) -> np.ndarray:
        """Spearman's correlation as observed and in other orders of the models, (orders, layers)."""
        n, each = len(self.gaps), len(self.references) > 1
        x, y = self._ranks(self.references, np.arange(n))
        if each:
            ways = orders(n, n_permutations, rng)
        else:
            others = np.delete(np.arange(n), self.references)
            moved = others[orders(n - 1, n_permutations, rng)]
            ways = np.insert(moved, self.references[0], self.references[0], axis=1)
        x = x.reshape(len(x), -1) / len(self.references)
        return np.array([x @ (y[way][:, way] if each else y[:, way]).ravel() for way in ways])

    def resampled(self, rng: np.random.Generator) -> np.ndarray:
        """Spearman's correlation of models drawn anew, (draws, layers); NaN where a draw has none."""
        n, each = len(self.gaps), len(self.references) > 1
        models = np.arange(n) if each else np.delete(np.arange(n), self.references)
        drawn = []
        for sample in rng.choice(models, (RESAMPLES, len(models))):
            x, y = self._ranks(sample if each else self.references, sample)
            by_reference = (x * y).sum(2)
            defined = ~np.isnan(by_reference)
            with np.errstate(invalid="ignore"):
                drawn.append(np.where(defined, by_reference, 0).sum(1) / defined.sum(1))
        return np.array(drawn)

    def kendall(self) -> np.ndarray:
        """Kendall's tau-b by layer."""
        from scipy.stats import kendalltau

        taus = []
        for r in self.references:
            others = np.arange(len(self.gaps)) != r
            taus.append([kendalltau(v[r, others], self.gaps[r, others]).statistic for v in self.values])
        return np.mean(taus, axis=0)

    def _ranks(self, references: np.ndarray, models: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ranks of models by dissimilarity (layers, references, models) and gap (references, models) to references.

        Centred and of length 1, so that products add up to a correlation: NaN where all ranks are the same, 0 for a
        reference itself and its copies.
        """
        own = references[:, None] == models
        at = (references[:, None], models)
        return _centred_ranks(self.values[:, *at], own), _centred_ranks(self.gaps[at], own)


def _centred_ranks(values: np.ndarray, own: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    ranks = rankdata(np.where(own, np.inf, values), axis=-1)  # own come last, and leave the ranks of others alone
    ranks = np.where(own, 0, ranks - ((~own).sum(-1, keepdims=True) + 1) / 2)
    length = np.sqrt((ranks**2).sum(-1, keepdims=True))
    return ranks / np.where(length > 0, length, np.nan)
