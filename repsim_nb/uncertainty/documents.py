"""Documents as the unit of inference: how they can be permuted or left out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from repsim_nb.errors import InputError

MIN_ARRANGEMENTS = 20  # with fewer, no p-value can be 0.05 or lower
MIN_MOVING = 0.5  # minimum share of rows in documents that can be exchanged


class WeakNullWarning(UserWarning):
    """Many documents have no other of equal size to be exchanged with: the test is valid but has little power."""


class Documents:
    """The document of every row.

    Parameters
    ----------
    labels
        The document of each row, (n_rows,); None makes every row a document of its own.
    n
        Number of rows.

    Attributes
    ----------
    codes
        Document of each row as a number from 0, in order of first appearance, (n_rows,).
    sizes
        Number of rows of each document, (n_documents,).

    Raises
    ------
    InputError
        If there is not exactly one label per row, or a label is missing.

    Examples
    --------
    >>> documents = Documents(["a", "a", "b", "c", "b"], 5)
    >>> documents.codes, documents.sizes
    (array([0, 0, 1, 2, 1]), array([2, 2, 1]))
    """

    def __init__(self, labels: Sequence[Any] | np.ndarray | None, n: int) -> None:
        import pandas as pd

        given = np.arange(n) if labels is None else np.asarray(labels)
        if given.shape != (n,):
            raise InputError(f"groups has shape {given.shape}; expected one document label for each of the {n} rows.")
        self.codes, names = pd.factorize(given)
        if (self.codes < 0).any():
            raise InputError(f"groups has no label at row {int((self.codes < 0).argmax())}; every row needs one.")
        self.n, self.sizes = n, np.bincount(self.codes, minlength=len(names))

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def strata(self) -> Iterator[np.ndarray]:
        """For every document size, ascending: the rows of the documents of that size, (documents, size)."""
        by_document = np.argsort(self.codes, kind="stable")
        start = np.cumsum(self.sizes) - self.sizes
        for size in np.unique(self.sizes):
            yield by_document[start[self.sizes == size][:, None] + np.arange(size)]

    @property
    def moving(self) -> float:
        """Share of rows in documents that have another document of equal size."""
        return sum(rows.size for rows in self.strata if len(rows) > 1) / self.n

    def check_exchangeable(self) -> None:
        """Raise if documents have too few permutations; warn if few of them can be exchanged."""
        ways = sum(math.lgamma(len(rows) + 1) for rows in self.strata)
        if ways < math.log(MIN_ARRANGEMENTS - 0.5):
            raise InputError(
                f"The null exchanges whole documents with equal numbers of rows. These {len(self)} documents (sizes "
                f"{self.sizes.min()} to {self.sizes.max()}) can be arranged in only {round(math.exp(ways))} ways, so "
                f"no p-value below 0.05 is possible. Use more documents, fewer rows per document (a smaller n_rows "
                "makes sizes equal), or rows='last'."
            )
        if self.moving < MIN_MOVING:
            warnings.warn(
                f"Only {self.moving:.0%} of the rows are in documents that have another of equal size to swap with: "
                "the null is valid but has little power. Fewer rows per document make sizes equal.",
                WeakNullWarning,
                stacklevel=2,
            )

    def arrangements(self, count: int, seed: int) -> Iterator[list[np.ndarray]]:
        """`count` random permutations of documents, one array per stratum."""
        rng = np.random.default_rng(seed)
        counts = [len(rows) for rows in self.strata]
        for _ in range(count):
            yield [rng.permutation(g) for g in counts]

    def order(self, arrangement: Sequence[np.ndarray]) -> np.ndarray:
        """The order of rows under an arrangement, (n_rows,)."""
        order = np.empty(self.n, dtype=np.intp)
        for rows, moved in zip(self.strata, arrangement, strict=True):
            order[rows] = rows[moved]
        return order

    def blocks(self, most: int, seed: int) -> np.ndarray:
        """Assign whole documents at random to at most `most` equal groups; the group of each row, (n_rows,)."""
        blocks = min(most, len(self))
        return np.random.default_rng(seed).permutation(np.arange(len(self)) % blocks)[self.codes]
