"""Users as the mean of what they have read, so that a search among the items recommends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.errors import InputError, named_arguments
from repsim_nb.retrieval.search import unique_ids

if TYPE_CHECKING:
    import xarray as xr


@named_arguments()
def users(
    embeddings: Any,
    histories: Mapping[Any, Sequence[Any]],
    *,
    item_ids: Sequence[Any] | None = None,
) -> xr.DataArray:
    """Compute one vector per user: the mean of the vectors of the items that the user has read.

    Parameters
    ----------
    embeddings
        What `embed` returned for the items, or an array (n_items, d) with `item_ids`.
    histories
        User -> ids of the items read. An item that is there twice counts twice.
    item_ids
        A unique id for each row of an array. None takes those of `embed`, else numbers from 0.

    Returns
    -------
    xarray.DataArray
        Dims text x feature, float32, one row per user in the order of `histories`; the coordinate `text` holds the
        users. `search(users(items, histories), items, leave_out=histories)` recommends.

    Raises
    ------
    InputError
        If there is no user, a history is empty or names an unknown item, or ids repeat.

    Notes
    -----
    This is the "late fusion" of news recommenders, whose user has no parameters of its own [1]_. With it, what is
    recommended can change for two reasons that can be told apart: another encoder of items with the same user, or
    another user (such as only the last item read) with the same encoder of items.

    How it misleads: the mean of texts on different subjects lies near none of them, and a long history pulls every user
    towards the centre of the corpus, so users become alike. Vectors of different length count by their length: scale
    them to 1 before if the encoder does not.

    References
    ----------
    .. [1] Iana, Glavaš and Paulheim (2024). Peeling back the layers: an in-depth evaluation of encoder architectures in
       neural news recommenders. INRA at RecSys, arXiv 2410.01470.

    Examples
    --------
    >>> from repsim_nb.retrieval import overlap, search
    >>> rng = np.random.default_rng(0)
    >>> old, other = rng.normal(size=(2, 50, 8))
    >>> new = old + 0.5 * other  # another encoder of the same items
    >>> read = {user: rng.choice(50, 4, replace=False).tolist() for user in range(30)}
    >>> last = {user: items[-1:] for user, items in read.items()}
    >>> def recommended(items, histories):
    ...     return search(users(items, histories), items, leave_out=read)
    >>> def kept(lists):
    ...     return float(overlap(recommended(old, read), lists, 10, "overlap")["overlap"].mean().round(2))
    >>> kept(recommended(new, read)), kept(recommended(old, last))  # other items, or another user
    (0.66, 0.43)
    """
    import pandas as pd
    import xarray as xr

    values = np.asarray(embeddings)
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise InputError(f"embeddings is an array {values.shape} of {values.dtype}; expected numbers, (n_items, d).")
    if item_ids is None and isinstance(embeddings, xr.DataArray) and "text" in embeddings.coords:
        item_ids = embeddings["text"].values.tolist()
    rows = pd.Index(unique_ids(item_ids, len(values), "item_ids"))
    if not isinstance(histories, Mapping) or not histories:
        raise InputError(f"histories={histories!r:.80}; expected a mapping user -> ids of items, with at least one.")
    means = np.empty((len(histories), values.shape[1]), dtype=np.float32)
    for number, (user, items) in enumerate(histories.items()):
        if isinstance(items, str):
            raise InputError(f"The history of user {user!r} is {items!r}; expected a list of ids.")
        items = list(items)
        if not items:
            raise InputError(f"The history of user {user!r} is empty, so there is no mean. Leave the user out.")
        place = rows.get_indexer(items)
        if (place < 0).any():
            lone = items[int(np.argmax(place < 0))]
            raise InputError(f"The history of user {user!r} has {lone!r}, which is not among the items.")
        means[number] = values[place].astype(np.float64).mean(0)
    return xr.DataArray(means, dims=("text", "feature"), coords={"text": list(histories)}, name="users")
