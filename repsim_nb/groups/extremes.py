"""Split models into those with the highest and those with the lowest accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repsim_nb.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def extremes(accuracy: pd.Series, size: int = 10, names: tuple[str, str] = ("generalizing", "heuristic")) -> pd.Series:
    """Group the models with the highest and the lowest accuracy.

    Parameters
    ----------
    accuracy
        Model -> accuracy, in any unit.
    size
        Number of models in each group.
    names
        Names of the groups with the highest and the lowest accuracy.

    Returns
    -------
    pandas.Series
        Model -> group for 2 * size models: the highest, best first, then the lowest, worst first. Ties keep the order
        of `accuracy`.

    Raises
    ------
    InputError
        If an accuracy is missing, a model appears twice, there are fewer than 2 * size models, or both names are
        equal.

    Notes
    -----
    Groups chosen by an extreme accuracy regress to the mean: on new examples their accuracies differ less. Effects
    found between extremes overstate those between typical models.

    Examples
    --------
    >>> import pandas as pd
    >>> extremes(pd.Series({"a": 0.5, "b": 0.9, "c": 0.1, "d": 0.7}), size=1).to_dict()
    {'b': 'generalizing', 'c': 'heuristic'}
    """
    import pandas as pd

    check_accuracy(accuracy)
    if size < 1 or len(accuracy) < 2 * size:
        raise InputError(f"Two groups of {size} cannot be taken from {len(accuracy)} models.")
    if names[0] == names[1]:
        raise InputError(f"Both groups are named {names[0]!r}; expected two different names.")
    best = accuracy.sort_values(ascending=False, kind="stable").index[:size]
    worst = accuracy.drop(best).sort_values(kind="stable").index[:size]
    return pd.Series([names[0]] * size + [names[1]] * size, index=best.append(worst), name="group")


def check_accuracy(accuracy: pd.Series) -> None:
    """Raise InputError if an accuracy is missing or a model appears twice."""
    missing = accuracy.index[accuracy.isna()].tolist()
    if missing:
        raise InputError(f"accuracy is missing for {', '.join(map(str, missing))}.")
    if not accuracy.index.is_unique:
        twice = accuracy.index[accuracy.index.duplicated()][0]
        raise InputError(f"accuracy lists {twice!r} twice; expected one value per model.")
