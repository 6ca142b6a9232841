"""Which measures, or which texts, agree on what models are similar?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.errors import unknown
from repsim_nb.groups.mantel import oriented, pair_ranks, rank_interval, relabelled, without_each
from repsim_nb.groups.permutations import ROUNDING, orders, p_values, standardised
from repsim_nb.groups.table_sets import MEASURE, sets_of_tables

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def agreement(
    results: Mapping[Any, pd.DataFrame | xr.DataArray] | xr.Dataset,
    models: Iterable[Any] | None = None,
    n_permutations: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    *,
    between: str = MEASURE,
) -> pd.DataFrame:
    """Rank-correlate every two of several model x model tables over pairs of models.

    Parameters
    ----------
    results
        Name -> table, as `mantel` takes them: one per measure, per corpus, or per both. Or what `compare_models`
        returns.
    models
        Models to use, at least four; None uses all that every table holds.
    n_permutations
        Number of relabellings of the models.
    level
        Coverage of each interval by itself.
    seed
        Seed for the permutations.
    between
        What the tables that are compared with each other differ in: "measure", or a dimension of a result of
        `compare_models` such as "corpus" or "layer". Each combination of everything else is a set of its own, and
        comes before table_a in the index.

    Returns
    -------
    pandas.DataFrame
        Indexed by table_a and table_b, each two tables once, in the order of `results`. Columns: spearman, low, high
        and p_value as in `mantel`; p_adjusted, family-wise over all pairs of tables of a set. attrs["models"] and
        attrs["left_out"] name the models. `square` turns a column into a table to draw.

    Raises
    ------
    InputError
        As for `mantel`, or if there are fewer than two tables.

    Notes
    -----
    For p_adjusted every table's models are relabelled by an order of its own, and the observed maximum of the
    standardised correlations is compared with those maxima. That is exact if no two tables are related. Where some
    are, it is an approximation for the others: of four tables of 10 models, two of which agreed almost perfectly, the
    other pairs gave a p_adjusted of at most 0.05 in 3% of simulations.

    How the number misleads: as for `mantel`. Tables made from one set of activations share their noise too, so that two
    measures can agree on what is an accident of these rows; agreement between texts has no such help. Intervals and
    p-values of different pairs of tables are about the same models: ten significant pairs are not ten findings.

    References
    ----------
    Mantel 1967; Westfall and Young 1993, "Resampling-based multiple testing"; Klabunde et al. 2023, "Towards measuring
    representational similarity of large language models", arXiv 2312.02730, for such a table.

    Examples
    --------
    >>> import pandas as pd
    >>> names, points = list("abcdef"), np.random.default_rng(0).normal(size=(2, 6, 2))
    >>> one, other = np.linalg.norm(points[:, :, None] - points[:, None], axis=-1)
    >>> tables = {"one": one, "squared": one**2, "other": other}
    >>> table = agreement({name: pd.DataFrame(values, names, names) for name, values in tables.items()})
    >>> table.spearman.round(2).to_dict()
    {('one', 'squared'): 1.0, ('one', 'other'): 0.07, ('squared', 'other'): 0.07}
    """
    import pandas as pd

    levels, sets = sets_of_tables(results, between)
    found = {key: _of_set(tables, models, n_permutations, level, seed) for key, tables in sets.items()}
    first = next(iter(found.values()))
    if not levels:
        return first
    keys = [key if len(levels) > 1 else key[0] for key in found]
    table = pd.concat([each.rename_axis(first.index.names) for each in found.values()], keys=keys, names=levels)
    table.attrs |= first.attrs
    return table


def mean_agreement(
    results: Mapping[Any, pd.DataFrame | xr.DataArray] | xr.Dataset,
    between: str = MEASURE,
    models: Iterable[Any] | None = None,
    n_permutations: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Average the rank correlation of every two of several model x model tables: how far they agree on the whole.

    Parameters
    ----------
    results, between, models
        As in `agreement`. With a result of two corpora and ten measures, between="measure" averages the 45
        correlations of two measures in each corpus, between="corpus" gives that of the corpora for each measure.
    n_permutations
        Number of relabellings.
    level
        Coverage of each interval by itself.
    seed
        Seed for the permutations.

    Returns
    -------
    pandas.DataFrame
        One line for each set of tables and, if there are several, a last one, "all", for the mean over them. Columns:
        spearman, the mean; low, high, an interval over models; p_value, one-sided, and least_p, the smallest that the
        permutations can give; n_tables, of a set; n_models.

    Raises
    ------
    InputError
        As for `agreement`.

    Notes
    -----
    The interval is the jackknife of `mantel`, of the mean: each model is left out of all tables at once. It is about
    other models; measures and corpora are as they are. For the p-value every table's models are relabelled by an order
    of its own, in all sets alike, and it asks whether any two tables agree at all.

    How the number misleads: as for `agreement`. The mean says little about a pair of measures. It rises with every
    near-copy of a measure that is added.

    References
    ----------
    Klabunde et al. 2023, arXiv 2312.02730, who report .35 and .65 between measures and .34 between corpora.

    Examples
    --------
    >>> import pandas as pd
    >>> names, points = list("abcdef"), np.random.default_rng(0).normal(size=(2, 6, 2))
    >>> one, other = np.linalg.norm(points[:, :, None] - points[:, None], axis=-1)
    >>> tables = {"one": one, "squared": one**2, "other": other}
    >>> mean_agreement({name: pd.DataFrame(values, names, names) for name, values in tables.items()}).spearman.round(2)
    all    0.38
    Name: spearman, dtype: float64
    """
    import pandas as pd

    levels, sets = sets_of_tables(results, between)
    read = [oriented(tables, models) for tables in sets.values()]
    n = len(read[0].models)
    values = np.array([mean_of_pairs(each.values) for each in read])
    without = np.array([without_each(each.values).mean(1) for each in read]).T
    rng = [np.random.default_rng(seed) for _ in read]  # the same orders in every set
    null = np.array(
        [
            _each_relabelled(pair_ranks(each.values), n_permutations, own).mean(1)
            for each, own in zip(read, rng, strict=True)
        ]
    ).T
    if len(read) > 1:
        values = np.append(values, values.mean())
        without, null = (np.column_stack([of, of.mean(1)]) for of in (without, null))
    low, high = rank_interval(values, without, level)
    lines: list[tuple[Any, ...]] = [*sets, ("all",) * len(levels)] if len(read) > 1 else [("all",)]
    index: pd.Index
    if len(levels) > 1:
        index = pd.MultiIndex.from_tuples(lines, names=levels)
    else:
        index = pd.Index([key[0] for key in lines], name=levels[0] if levels else None)
    table = pd.DataFrame(
        {
            "spearman": values,
            "low": low,
            "high": high,
            "p_value": (null >= null[0] - ROUNDING).mean(0),
            "least_p": 1 / len(null),
            "n_tables": [*(len(tables) for tables in sets.values()), *([len(read[0].values)] if len(read) > 1 else [])],
            "n_models": n,
        },
        index=index,
    )
    table.attrs |= {"models": read[0].models, "left_out": read[0].left_out}
    return table


def mean_of_pairs(values: np.ndarray) -> float:
    """Mean rank correlation of every two tables."""
    return float(relabelled(pair_ranks(values), np.arange(values.shape[1])[None])[0].mean())


def _of_set(
    tables: Mapping[str, pd.DataFrame | xr.DataArray],
    models: Iterable[Any] | None,
    n_permutations: int,
    level: float,
    seed: int,
) -> pd.DataFrame:
    """Agreement of the tables of one set."""
    import pandas as pd

    read = oriented(tables, models)
    ranks, n = pair_ranks(read.values), len(read.models)
    rng = np.random.default_rng(seed)
    scores = relabelled(ranks, orders(n, n_permutations, rng))
    p_value, _ = p_values(scores)
    _, p_adjusted = p_values(standardised(_each_relabelled(ranks, n_permutations, rng), np.ones(scores.shape[1])))
    low, high = rank_interval(scores[0], without_each(read.values), level)
    names = list(tables)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    table = pd.DataFrame(
        {
            "spearman": scores[0],
            "low": low,
            "high": high,
            "p_value": p_value,
            "p_adjusted": np.maximum(p_value, p_adjusted),
        },
        index=pd.MultiIndex.from_tuples(pairs, names=["table_a", "table_b"]),
    )
    table.attrs |= {"models": read.models, "left_out": read.left_out}
    return table


def square(table: pd.DataFrame, column: str = "spearman") -> pd.DataFrame:
    """Turn a column of `agreement` into a symmetric table over the names, with 1 on the diagonal.

    Parameters
    ----------
    table
        Result of `agreement`.
    column
        One of its columns.

    Returns
    -------
    pandas.DataFrame
        Square, in the order of the tables, for `figures.agreement_map`.

    Raises
    ------
    InputError
        If there is no such column.
    """
    import pandas as pd

    if column not in table:
        raise unknown("column", column, table.columns)
    names = list(dict.fromkeys(name for pair in table.index for name in pair))
    values = np.eye(len(names))
    first, second = np.triu_indices(len(names), 1)
    values[first, second] = values[second, first] = table[column]
    drawn = pd.DataFrame(values, names, names)
    drawn.attrs["over"] = "pairs of models"
    return drawn


def _each_relabelled(ranks: np.ndarray, n_permutations: int, rng: np.random.Generator) -> np.ndarray:
    """Correlations of each two tables, (ways, pairs of tables), with each table's models in an order of its own."""
    k, n = ranks.shape[:2]
    first, second = np.triu_indices(k, 1)
    found = [relabelled(ranks, np.arange(n)[None])]
    for _ in range(n_permutations):
        ways = rng.permuted(np.tile(np.arange(n), (k, 1)), axis=1)
        flat = ranks[np.arange(k)[:, None, None], ways[:, :, None], ways[:, None]].reshape(k, -1)
        found.append((flat @ flat.T)[first, second][None])
    return np.vstack(found)
