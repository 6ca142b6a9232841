"""A close-up of two representations of the same rows: both on shared axes, and the tokens where they differ most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from repsim_nb.errors import InputError
from repsim_nb.measures.arrays import as_matrix
from repsim_nb.measures.features import Features

if TYPE_CHECKING:
    import pandas as pd

    from repsim_nb.activations import Activations
    from repsim_nb.corpora import Corpus
    from repsim_nb.models import Model

CONTEXT = 48  # characters shown on either side of a token


@dataclass(frozen=True)
class SharedAxes:
    """Two representations in one space after Procrustes alignment.

    Both are centred and scaled to rows of root mean square length 1, then the second is rotated onto the first. The
    axes are the first two principal axes of both together.

    Attributes
    ----------
    x, y
        A sample of rows projected on the two axes, (k, 2) each; row i of both is the same stimulus.
    index
        Indices of the sampled rows, (k,), increasing.
    explained
        Share of the pooled variance on each axis, (2,).
    difference
        Distance between each row and its counterpart in the full space, (n,). The mean of the squares is the squared
        Procrustes distance.
    """

    x: np.ndarray
    y: np.ndarray
    index: np.ndarray
    explained: np.ndarray
    difference: np.ndarray

    def __str__(self) -> str:
        return f"{len(self.index):,} of {len(self.difference):,} rows"


def shared_axes(x: Any, y: Any, k: int = 300, seed: int = 0) -> SharedAxes:
    """Project two representations on shared axes.

    Parameters
    ----------
    x, y
        Tensors or arrays of shape (n, d_x) and (n, d_y); row i of both is the same stimulus. The narrower one is
        padded with zeros.
    k
        Maximum number of rows to show. Differences are computed for all rows.
    seed
        Seed for sampling the rows shown.

    Returns
    -------
    SharedAxes
        Sampled rows on both axes, and the distance of every row from its counterpart.

    Raises
    ------
    InputError
        If the numbers of rows differ, there are fewer than 3, or all rows are equal.

    Notes
    -----
    The two axes can hold a small share of the variance (`explained`): points that overlap in the plot may lie far
    apart in the full space. Read distances from `difference`, not from the plot.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> turned = 3 * x[:, ::-1] + 1
    >>> bool(np.allclose(shared_axes(x, turned).difference, 0, atol=1e-6))
    True
    """
    a, b = _unit(x, "x"), _unit(y, "y")
    if len(a) != len(b):
        raise InputError(f"x has {len(a)} rows, y has {len(b)}: row i of both must be the same stimulus.")
    width = max(a.shape[1], b.shape[1])
    a, b = (np.pad(m, ((0, 0), (0, width - m.shape[1]))) for m in (a, b))
    left, _, right = np.linalg.svd(b.T @ a)
    b = b @ (left @ right)
    values, vectors = np.linalg.eigh(a.T @ a + b.T @ b)
    axes = vectors[:, :-3:-1]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), range(axes.shape[1])])  # an axis has no sign of its own
    if width == 1:
        axes = np.pad(axes, ((0, 0), (0, 1)))
    share = np.zeros(2)
    share[: min(2, width)] = values[:-3:-1].clip(min=0) / values.clip(min=0).sum()
    index = np.sort(np.random.default_rng(seed).choice(len(a), min(k, len(a)), replace=False))
    return SharedAxes(a[index] @ axes, b[index] @ axes, index, share, np.linalg.norm(a - b, axis=1))


def _unit(x: Any, side: str) -> np.ndarray:
    """Centred, with rows of root mean square length 1, in float64."""
    given = as_matrix(x, side)
    if len(given) < 3:
        raise InputError(f"{side} has {len(given)} rows; shared_axes needs at least 3.")
    features = Features(given, side).varied("shared_axes")
    matrix = features.rows(dtype=torch.float64).numpy(force=True)
    return matrix / np.sqrt((matrix**2).sum(1).mean())


def most_different(
    closeup: SharedAxes,
    model: Model,
    activations: Activations,
    corpus: Corpus | str | Sequence[str] | None = None,
    n: int = 10,
) -> pd.DataFrame:
    """List the tokens at which two representations differ most, with the text around them.

    Parameters
    ----------
    closeup
        Result of `shared_axes` for all rows of `activations` and their counterparts.
    model
        The model whose tokens are shown.
    activations
        One of the two sides; its `rows` say where each token is.
    corpus
        The corpus the activations come from. None means the one the model was made for.
    n
        Number of tokens.

    Returns
    -------
    pandas.DataFrame
        DataFrame(document, before, token, after, difference), largest difference first, indexed by row.

    Notes
    -----
    Distances are relative to the overall spread. Tokens with unusually large norms, such as the first of a window,
    can fill the list even if the rest of the text differs more on average; see `Controls.leave_out_first`.
    """
    import pandas as pd

    order = np.argsort(-closeup.difference, kind="stable")[:n]
    shown = tokens_at(model, activations.rows.iloc[order], corpus)
    return shown.assign(difference=closeup.difference[order]).set_axis(pd.Index(order, name="row"))


def tokens_at(model: Model, rows: pd.DataFrame, corpus: Corpus | str | Sequence[str] | None = None) -> pd.DataFrame:
    """The tokens at `rows` (lines of `Activations.rows`): DataFrame(document, before, token, after)."""
    import pandas as pd

    from repsim_nb.corpora import load_corpus

    texts = load_corpus(model.made_for if corpus is None else corpus)
    place = {name: number for number, name in enumerate(texts.documents)}
    starts: dict[str, dict[int, int]] = {}
    lines = []
    for document, end in zip(rows.document, rows.char_end, strict=True):
        given = texts.inputs[place[document]]
        text = given if isinstance(given, str) else "\n".join(given)
        if document not in starts:
            offsets = np.concatenate([window.offsets for window in model.windows([given])])
            starts[document] = {last: first for first, last in offsets[::-1].tolist()}
        start = starts[document].get(end, max(end - 1, 0))
        before, after = text[max(0, start - CONTEXT) : start], text[end : end + CONTEXT]
        lines.append({"document": document, "before": before, "token": text[start:end], "after": after})
    return pd.DataFrame(lines, columns=["document", "before", "token", "after"])
