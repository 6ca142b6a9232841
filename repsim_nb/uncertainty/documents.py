"""The unit of inference: documents, and how they may be exchanged or left out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from repsim_nb.errors import InputError

MIN_ARRANGEMENTS = 20  # with fewer, no p-value can fall below 0.05
MIN_MOVING = 0.5  # share of rows in documents that can change places


class WeakNullWarning(UserWarning):
    """Many documents have no other of their size to change places with: the test is valid and has little power."""


class Documents:
    """Which rows belong to which document.

    Parameters
    ----------
    labels
        The document of each row, (n_rows,); None makes every row its own document.
    n
        Number of rows.

    Attributes
    ----------
    codes
        Document of each row, 0 to n_documents - 1 in order of first appearance, (n_rows,).
    sizes
        Rows of each document, (n_documents,).

    Raises
    ------
    InputError
        Labels that are not one per row, or missing labels.

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
        """Rows of the documents of one size, (documents, size), for every size that occurs, ascending.

        Each line is one document, its rows in their order.
        """
        by_document = np.argsort(self.codes, kind="stable")
        start = np.cumsum(self.sizes) - self.sizes
        for size in np.unique(self.sizes):
            yield by_document[start[self.sizes == size][:, None] + np.arange(size)]

    @property
    def moving(self) -> float:
        """Share of rows whose document has another of equal size."""
        return sum(rows.size for rows in self.strata if len(rows) > 1) / self.n

    def check_exchangeable(self) -> None:
        """Raise where documents cannot change places in enough ways; warn where few of them can."""
        ways = sum(math.lgamma(len(rows) + 1) for rows in self.strata)
        if ways < math.log(MIN_ARRANGEMENTS - 0.5):
            raise InputError(
                f"The null exchanges whole documents with equal numbers of rows; these {len(self)} documents (sizes "
                f"{self.sizes.min()} to {self.sizes.max()}) can be arranged in only {round(math.exp(ways))} ways, so "
                f"that no p-value below 0.05 is possible. Use more documents, fewer rows per document (a smaller "
                "n_rows makes their numbers equal), or rows='last'."
            )
        if self.moving < MIN_MOVING:
            warnings.warn(
                f"Only {self.moving:.0%} of the rows are in documents that have another of equal size to change places "
                "with: the null is valid but will hardly reject. Fewer rows per document make their numbers equal.",
                WeakNullWarning,
                stacklevel=2,
            )

    def arrangements(self, count: int, seed: int) -> Iterator[list[np.ndarray]]:
        """`count` random arrangements: for each stratum, which document goes to each document's place."""
        rng = np.random.default_rng(seed)
        counts = [len(rows) for rows in self.strata]
        for _ in range(count):
            yield [rng.permutation(g) for g in counts]

    def order(self, arrangement: Sequence[np.ndarray]) -> np.ndarray:
        """The row that goes to each row's place under an arrangement, (n_rows,)."""
        order = np.empty(self.n, dtype=np.intp)
        for rows, moved in zip(self.strata, arrangement, strict=True):
            order[rows] = rows[moved]
        return order

    def blocks(self, most: int, seed: int) -> np.ndarray:
        """Whole documents dealt at random into at most `most` groups of like size: the group of each row, (n_rows,)."""
        blocks = min(most, len(self))
        return np.random.default_rng(seed).permutation(np.arange(len(self)) % blocks)[self.codes]
