"""The models at both ends of an accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repsim_nb.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def extremes(accuracy: pd.Series, size: int = 10, names: tuple[str, str] = ("generalizing", "heuristic")) -> pd.Series:
    """The models with the highest and those with the lowest accuracy, as two groups.

    Parameters
    ----------
    accuracy
        Model -> accuracy, in any unit.
    size
        Of each group.
    names
        Of the group with the highest and of that with the lowest accuracy.

    Returns
    -------
    pandas.Series
        Series model -> group of 2 size models: the highest, best first, then the lowest, worst first. Of models with
        the same accuracy the one named first goes first.

    Raises
    ------
    InputError
        An accuracy that is missing, a model named twice, fewer than 2 size models, one name for both.

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
        raise InputError(f"Both groups are named {names[0]!r}; give two names.")
    best = accuracy.sort_values(ascending=False, kind="stable").index[:size]
    worst = accuracy.drop(best).sort_values(kind="stable").index[:size]
    return pd.Series([names[0]] * size + [names[1]] * size, index=best.append(worst), name="group")


def check_accuracy(accuracy: pd.Series) -> None:
    """Raise InputError where an accuracy is missing or a model is named twice."""
    missing = accuracy.index[accuracy.isna()].tolist()
    if missing:
        raise InputError(f"There is no accuracy for {', '.join(map(str, missing))}.")
    if not accuracy.index.is_unique:
        twice = accuracy.index[accuracy.index.duplicated()][0]
        raise InputError(f"accuracy names {twice!r} twice; one value per model is needed.")
