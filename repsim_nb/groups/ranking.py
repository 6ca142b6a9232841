"""Rank correlations of dissimilarity and accuracy gap: do less similar models also differ more in accuracy?"""

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

RESAMPLES = 1000  # bootstrap resamples of models
DECIMALS = 12  # of accuracy gaps, so that 0.7 - 0.4 and 0.4 - 0.1 are equal


def rank_correlation(
    dissimilarity: xr.DataArray,
    accuracy: pd.Series,
    reference: str = "best",
    n_permutations: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Rank-correlate dissimilarity to a reference model with the gap in accuracy, layer by layer.

    Parameters
    ----------
    dissimilarity
        Layer x model x model, see `repsim_nb.groups`.
    accuracy
        Model -> accuracy, in any unit, for at least four models. Models without one are left out.
    reference
        "best" (the model with the highest accuracy, the first one if tied), the name of a model, or "each": every
        model in turn, averaging the correlations.
    n_permutations
        Number of permutations of the models; all of them are used if there are no more than this.
    level
        Coverage of each line's interval by itself.
    seed
        Seed for permutations and intervals.

    Returns
    -------
    pandas.DataFrame
        Indexed by layer, with a last line "mean" for the correlation averaged over layers. Columns: spearman and
        kendall (tau-b); low and high of spearman; p_value, one-sided (spearman above 0), for each line by itself; and
        p_adjusted, family-wise over layers by the maximum of the standardised spearman. "mean" is a single test, so
        its p_adjusted equals its p_value. Layers where all dissimilarities to a reference are equal have no
        correlation: they are listed in attrs["undefined"], missing in the table and left out of the mean.

    Raises
    ------
    InputError
        If the array does not have layers and the same models twice, lacks a value or a model, an accuracy is missing,
        there are fewer than four models or 19 permutations, the reference is unknown, all accuracy gaps to a reference
        are equal, or no layer has a correlation.

    Notes
    -----
    The accuracy gap is the absolute difference of accuracies. The p-value permutes accuracies among the models that
    are not the reference; with reference="each" it permutes whole models (a Mantel test). The interval resamples
    models with replacement and never compares a model with its own copy. With a single reference everything hinges on
    that one model: another one can give another correlation.

    References
    ----------
    Ding, Denain and Steinhardt 2021, "Grounding representation similarity with statistical testing", arXiv 2108.01661;
    Mantel 1967.
    """
    import pandas as pd

    check_accuracy(accuracy)
    if len(accuracy) < 4:
        raise InputError(f"A rank correlation needs at least four models with an accuracy, got {len(accuracy)}.")
    layers, models, values = read_pairs(dissimilarity, accuracy.index)
    value = accuracy[models].to_numpy(np.float64)
    gaps = np.round(np.abs(value[:, None] - value), DECIMALS)
    at = _references(accuracy, models, reference)
    compared = _RankedPairs(values, gaps, at)
    undefined = compared.undefined
    if undefined.all():
        raise InputError("There is no rank correlation: in every layer all dissimilarities to a reference are equal.")
    rng = np.random.default_rng(seed)
    compared = _RankedPairs(values[~undefined], gaps, at)
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
    """Rank measures by how well their dissimilarities predict accuracy gaps, best first.

    Parameters
    ----------
    dissimilarities
        Measure -> dissimilarities as in `rank_correlation`.
    accuracy, reference, n_permutations, level, seed
        As in `rank_correlation`.

    Returns
    -------
    pandas.DataFrame
        Indexed by measure: spearman, kendall, low, high and p_value of the mean over layers; best_layer and
        best_spearman for the layer with the highest correlation.

    Raises
    ------
    InputError
        As for `rank_correlation`, or if there is no measure.

    Notes
    -----
    p-values are not corrected for the number of measures. best_spearman is a maximum over layers and therefore too
    high; `rank_correlation` gives its corrected p-value.
    """
    import pandas as pd

    if not dissimilarities:
        raise InputError("There is no measure to rank; expected the dissimilarities of at least one.")
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
    """Indices of the reference models."""
    if reference == "each":
        return np.arange(len(models))
    name = accuracy.idxmax() if reference == "best" else reference
    if name not in models:
        raise InputError(f'Unknown reference {reference!r}; expected "best", "each" or a model with an accuracy.')
    return np.array([models.index(name)])


class _RankedPairs(NamedTuple):
    """Dissimilarities (layers, models, models), accuracy gaps (models, models) and indices of the references."""

    values: np.ndarray
    gaps: np.ndarray
    references: np.ndarray

    @property
    def undefined(self) -> np.ndarray:
        """Mask of layers where a reference has no correlation, bool (layers,)."""
        x, y = self._ranks(self.references, np.arange(len(self.gaps)))
        if np.isnan(y).any():
            raise InputError("There is no rank correlation: all accuracy gaps to a reference are equal.")
        return np.isnan(x).any((1, 2))

    def permuted(self, n_permutations: int, rng: np.random.Generator) -> np.ndarray:
        """Spearman correlations, (orders, layers): observed, then with permuted models."""
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
        """Spearman correlations of resampled models, (draws, layers); NaN if a draw has none."""
        n, each = len(self.gaps), len(self.references) > 1
        models = np.arange(n) if each else np.delete(np.arange(n), self.references)
        samples = rng.choice(models, (RESAMPLES, len(models)))
        counts = np.array([np.bincount(sample, minlength=n) for sample in samples])
        total, defined = np.zeros((2, RESAMPLES, len(self.values)))
        for r in self.references:  # one at a time, for memory
            x, y = (_ranks_among(v, r, counts) for v in (self.values[:, r], self.gaps[None, r]))
            of_one = np.einsum("dlm,dlm,dm->dl", x, np.broadcast_to(y, x.shape), counts)
            weight = counts[:, [r]] if each else 1
            total += weight * np.nan_to_num(of_one)
            defined += weight * ~np.isnan(of_one)
        with np.errstate(invalid="ignore"):
            return total / defined

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

        Centred and scaled to length 1, so that inner products are correlations: NaN if all ranks are equal, 0 for a
        reference itself and its copies.
        """
        own = references[:, None] == models
        at = (references[:, None], models)
        return _centred_ranks(self.values[:, *at], own), _centred_ranks(self.gaps[at], own)


def _centred_ranks(values: np.ndarray, own: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    ranks = rankdata(np.where(own, np.inf, values), axis=-1)  # own entries rank last, so other ranks stay
    ranks = np.where(own, 0, ranks - ((~own).sum(-1, keepdims=True) + 1) / 2)
    length = np.sqrt((ranks**2).sum(-1, keepdims=True))
    return ranks / np.where(length > 0, length, np.nan)


def _ranks_among(values: np.ndarray, reference: int, counts: np.ndarray) -> np.ndarray:
    """Ranks by `values` (layers, models) in samples that hold each model `counts` times, (samples, layers, models).

    As `_centred_ranks` gives them, without sorting each sample: a rank counts the members of the sample below.
    """
    below = (values[:, :, None] < values[:, None]) + 0.5 * (values[:, :, None] == values[:, None])
    below[:, reference] = 0
    ranks = np.tensordot(counts, below, (1, 1)) - (counts.sum(1) - counts[:, reference])[:, None, None] / 2
    ranks[..., reference] = 0
    length = np.sqrt(np.einsum("dlm,dlm,dm->dl", ranks, ranks, counts))[..., None]
    return ranks / np.where(length > 0, length, np.nan)
