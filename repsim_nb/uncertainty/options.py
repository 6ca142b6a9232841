"""Options for null and interval, validated before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from repsim_nb.errors import InputError, unknown

NULLS = ("permutation", "moments")
PERMUTATIONS = 200
FEWEST = 19  # permutations below which no p-value reaches 0.05


@dataclass(frozen=True)
class Uncertainty:
    """Null and interval of a comparison.

    Parameters
    ----------
    null
        None, "permutation" (200 permutations), a number of permutations (at least 19), or "moments" for linear CKA:
        the same null in closed form, many times faster, with Pearson III tails (see `uncertainty.closed_form`).
    interval
        None or False for no interval, the level, or True for 0.95.
    groups
        The document of each row, (n_rows,), for plain arrays. Activations have their documents. Without either, every
        row is a document of its own.
    between_documents
        Leave out pairs of rows from the same document, for measures with a parameter `groups` (cka). Tokens of one
        document are similar in any two models.
    seed
        Seed for permutations and for the jackknife's blocks.

    Raises
    ------
    InputError
        If a value is invalid, or groups are given but nothing uses them.

    Notes
    -----
    p-values are family-wise over the layers of one grid, but not over measures or model pairs. Intervals hold for each
    cell by itself. Both generalise to other documents of the same corpus, not to other seeds of the models.

    Examples
    --------
    >>> Uncertainty(null="permutation", interval=True).permutations
    200
    >>> bool(Uncertainty())
    False
    """

    null: str | int | None = None
    interval: float | bool | None = None
    groups: Sequence[Any] | np.ndarray | None = field(default=None, repr=False)
    between_documents: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _check_null(self.null)
        level = self.level
        if level is not None and not (isinstance(level, float) and 0 < level < 1):
            raise InputError(
                f"interval={self.interval!r}; expected None, True or a level between 0 and 1 such as 0.95."
            )
        if not isinstance(self.between_documents, bool):
            raise InputError(f"between_documents={self.between_documents!r}; expected True or False.")
        if self.groups is not None and not self:
            raise InputError(
                "groups would have no effect: only null, interval and between_documents=True use them. For a measure "
                "with its own groups use get_measure(name, groups=...)."
            )

    def __bool__(self) -> bool:
        return self.resampled or self.between_documents

    @property
    def resampled(self) -> bool:
        """Whether documents are permuted or left out, which needs all rows in memory."""
        return self.in_closed_form or self.permutations is not None or self.level is not None

    @property
    def in_closed_form(self) -> bool:
        """Whether the null is computed in closed form."""
        return isinstance(self.null, str) and self.null == "moments"

    @property
    def permutations(self) -> int | None:
        """Number of permutations, or None without a permutation null."""
        if self.null is None or self.null is False or self.in_closed_form:
            return None
        return PERMUTATIONS if isinstance(self.null, str) else int(self.null)

    @property
    def level(self) -> Any:
        """Level of the interval, or None without an interval."""
        if self.interval is None or self.interval is False:
            return None
        if self.interval is True:
            return 0.95
        return float(self.interval) if isinstance(self.interval, int | float | np.floating) else self.interval


def _check_null(null: Any) -> None:
    if isinstance(null, str):
        if null not in NULLS:
            raise unknown("null", null, NULLS)
    elif null is not None and null is not False:
        whole = isinstance(null, int | np.integer) and not isinstance(null, bool)
        if not whole or null < FEWEST:
            raise InputError(
                f'null={null!r}; expected None, "permutation", "moments" or a number of permutations of at least '
                f"{FEWEST}."
            )
