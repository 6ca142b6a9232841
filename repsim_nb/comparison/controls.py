"""Controls: remove outlier tokens or dominant directions before comparing, and measure how much they contribute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from repsim_nb.activations import Activations
from repsim_nb.errors import InputError
from repsim_nb.measures.arrays import as_matrix
from repsim_nb.measures.features import Features, column_sums

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from repsim_nb.models import Model

MIN_ROWS = 4  # rows that must remain


@dataclass(frozen=True)
class Controls:
    """What to remove from activations before they are compared, in this order. The default removes nothing.

    Parameters
    ----------
    leave_out_first
        Leave out rows among this many first tokens of their sequence, special tokens included. Models put massive
        activations there (Sun et al. 2024, "Massive activations in large language models").
    leave_out_norms
        Leave out rows whose norm exceeds this multiple of a layer's median norm. They are left out of all layers and
        both sides, so that rows still match. Must be above 1; None means no limit.
    standardize
        Centre every feature and divide it by its standard deviation; constant features are dropped.
    remove_components
        Project this many leading principal components out of every layer, after standardizing.

    Raises
    ------
    InputError
        If a number is out of range.

    Notes
    -----
    Controls change the question: without the leading components, two layers can look different although almost all of
    their variance agrees. Null and interval treat the controls as fixed.

    Examples
    --------
    >>> acts = {0: torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1], [90, 0]])}
    >>> Controls(leave_out_norms=10).applied(acts)[0][0][0].shape
    torch.Size([4, 2])
    """

    leave_out_first: int = 0
    leave_out_norms: float | None = None
    standardize: bool = False
    remove_components: int = 0

    def __post_init__(self) -> None:
        for name in ("leave_out_first", "remove_components"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
                raise InputError(f"{name}={value!r}; expected a whole number, 0 or more.")
        norms = self.leave_out_norms
        if norms is not None and (isinstance(norms, bool) or not norms > 1):
            raise InputError(f"leave_out_norms={norms!r}; expected None or a multiple of the median norm, above 1.")
        if not isinstance(self.standardize, bool):
            raise InputError(f"standardize={self.standardize!r}; expected True or False.")

    def __bool__(self) -> bool:
        return self != Controls()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that differ from the default, for the provenance."""
        return {name: value for name, value in asdict(self).items() if value != getattr(Controls(), name)}

    def applied(self, *sides: Mapping[int, Any]) -> tuple[list[Mapping[int, Any]], np.ndarray]:
        """Apply the controls; return the sides and the mask of kept rows, bool (n_rows,), which all sides share.

        Raises
        ------
        InputError
            If fewer than 4 rows remain, no dimension would remain, or leave_out_first is given for plain arrays, which
            have no positions.
        """
        kept = self.kept(sides)
        return [self._changed(side, kept) for side in sides], kept

    def kept(self, sides: Iterable[Mapping[int, Any]]) -> np.ndarray:
        """Mask of the rows that remain on all sides, bool (n_rows,). Holds one layer in memory at a time.

        Raises
        ------
        InputError
            As for `applied`.
        """
        kept = np.logical_and.reduce([self._rows(side) for side in sides])
        if kept.sum() < MIN_ROWS:
            raise InputError(
                f"{kept.sum()} of {len(kept)} rows remain after {self}; need at least {MIN_ROWS}. Leave out less."
            )
        return kept

    def changed(self, x: Any, kept: np.ndarray, layer: Any) -> Tensor:
        """One layer after the controls."""
        return self._features(as_matrix(x, f"layer {layer}")[torch.from_numpy(np.flatnonzero(kept))], layer)

    def _rows(self, acts: Mapping[int, Any]) -> np.ndarray:
        kept: Any = True
        if self.leave_out_first:
            if not isinstance(acts, Activations):
                raise InputError("leave_out_first needs activations from extract; plain arrays have no positions.")
            kept = acts.rows["position"].to_numpy() >= self.leave_out_first
        for layer in acts:
            x = as_matrix(acts[layer], f"layer {layer}")
            kept = np.ones(len(x), dtype=bool) & kept
            if self.leave_out_norms is None:
                break
            norms = x.norm(dim=1)
            kept &= (norms <= self.leave_out_norms * norms.median()).numpy(force=True)
        return kept

    def _changed(self, acts: Mapping[int, Any], kept: np.ndarray) -> Mapping[int, Any]:
        layers = {layer: self.changed(x, kept, layer) for layer, x in acts.items()}
        if not isinstance(acts, Activations):
            return layers
        rows = acts.rows[kept].reset_index(drop=True)
        return Activations(layers, rows, acts.provenance | {"controls": self.settings, "n_rows": int(kept.sum())})

    def _features(self, x: Tensor, layer: Any) -> Tensor:
        if self.standardize:
            centred = _centred(x)
            deviation, size = centred.norm(dim=0) / (len(x) - 1) ** 0.5, x.abs().amax(0)
            varies = deviation > torch.finfo(x.dtype).eps * size
            if not varies.any():
                raise InputError(f"standardize leaves nothing of layer {layer}: all of its features are constant.")
            x = (centred[:, varies] / deviation[varies]).to(x.dtype)
        if self.remove_components:
            if self.remove_components >= min(len(x) - 1, x.shape[1]):
                raise InputError(
                    f"remove_components={self.remove_components} leaves nothing of layer {layer}, which has "
                    f"{len(x)} rows and {x.shape[1]} varying features. Remove fewer."
                )
            x = _centred(x).to(x.dtype)
            first = _directions(x)[:, -self.remove_components :]
            x = x - (x @ first) @ first.T
        return x


def _centred(x: Tensor) -> Tensor:
    """Centre in float64, so that a large mean does not swamp the differences."""
    return x.double() - column_sums(x) / len(x)


def _directions(centred: Tensor) -> Tensor:
    """Principal directions (d, d), largest variance last."""
    wide = centred.double()
    return torch.linalg.eigh(wide.T @ wide).eigenvectors.to(centred.dtype)


def component_share(a: Mapping[int, Any], b: Mapping[int, Any] | None = None) -> xr.Dataset:
    """Share of the similarity of two layers that comes from their first principal components.

    Parameters
    ----------
    a, b
        Activations, layer -> (n_rows, d). b=None compares a with itself.

    Returns
    -------
    xarray.Dataset
        Dims (layer_a, layer_b): `share`, l_1 m_1 <u_1, v_1>^2 over linear HSIC, in [0, 1] (the same share of biased
        CKA, whose normaliser cancels); `alignment`, <u_1, v_1>^2 in [0, 1]; and per side `variance_a` and
        `variance_b`, the first component's share of each layer's variance.

    Raises
    ------
    InputError
        If the sides have different numbers of rows, or a layer has no variance.

    Notes
    -----
    With eigenvalues l_i, m_j of the two centred Gram matrices and their eigenvectors u_i, v_j, linear HSIC is the sum
    of l_i m_j <u_i, v_j>^2 over all i and j. A block of layers caused by one component has a share near 1. With few
    rows the biased similarity that is split here can be far above debiased CKA.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 3)) * [10, 1, 1]
    >>> component_share({0: x}).share.round(2).item()
    1.0

    References
    ----------
    Nguyen, Raghu and Kornblith 2021, "Do wide and deep networks learn the same things?", section 4.
    """
    import xarray as xr

    sides = [_first_components(acts, name) for acts, name in ((a, "a"), (a if b is None else b, "b"))]
    (xs, first_a, variance_a), (ys, first_b, variance_b) = sides
    if len(first_a) != len(first_b):
        raise InputError(f"a has {len(first_a)} rows and b has {len(first_b)}; row i must be the same place in both.")
    carried = (first_a.T @ first_b).square()  # l_1 m_1 <u_1, v_1>^2
    hsic = torch.stack([torch.stack([(x.T @ y).double().square().sum() for y in ys]) for x in xs])
    lengths = torch.outer(first_a.square().sum(0), first_b.square().sum(0))
    dims = ("layer_a", "layer_b")
    return xr.Dataset(
        {
            "share": (dims, (carried / hsic).clamp(0, 1).numpy(force=True)),
            "alignment": (dims, (carried / lengths).clamp(0, 1).numpy(force=True)),
            "variance_a": ("layer_a", variance_a),
            "variance_b": ("layer_b", variance_b),
        },
        coords={"layer_a": list(a), "layer_b": list(a if b is None else b)},
    )


def _first_components(acts: Mapping[int, Any], side: str) -> tuple[list[Tensor], Tensor, np.ndarray]:
    """Centred layers, their scores on the first principal direction (n_rows, layers), and its shares of variance."""
    layers, projections, shares = [], [], []
    for layer, values in acts.items():
        x = as_matrix(values, f"layer {layer} of {side}")
        Features(x, f"layer {layer} of {side}").varied("component_share")
        x = _centred(x).to(x.dtype)
        total = x.double().square().sum()
        projections.append(x.double() @ _directions(x)[:, -1].double())
        shares.append((projections[-1].square().sum() / total).item())
        layers.append(x)
    return layers, torch.stack(projections, 1), np.array(shares)


def largest_activations(acts: Mapping[int, Any]) -> pd.DataFrame:
    """Find the largest activation of every layer and how far it stands out.

    Parameters
    ----------
    acts
        Activations, layer -> (n_rows, d).

    Returns
    -------
    pandas.DataFrame
        Indexed by layer: largest (absolute value), median (of absolute values), ratio of the two, row and feature of
        the largest value, norm_ratio (largest row norm over median row norm) and, for activations from `extract`,
        document and position of that row.

    Notes
    -----
    Sun et al. (2024) call a value massive if it is above 100 and above 1,000 times the median. Massive activations sit
    on a few tokens, so a sample of rows can miss them: extract with rows="padded" to get every position of a window.

    Examples
    --------
    >>> largest_activations({0: np.array([[1.0, -2.0], [50.0, 1.0]])})[["largest", "row", "feature"]].values.tolist()
    [[50.0, 1.0, 0.0]]
    """
    import pandas as pd

    lines = {}
    for layer, values in acts.items():
        x = as_matrix(values, f"layer {layer}")
        size = x.abs()
        place = int(size.argmax())
        row, feature = divmod(place, x.shape[1])
        largest, median, norms = size.flatten()[place].item(), size.median().item(), x.norm(dim=1)
        line: dict[Any, Any] = {
            "largest": largest,
            "median": median,
            "ratio": largest / median if median else float("inf"),
            "norm_ratio": (norms.max() / norms.median()).item() if norms.median() else float("inf"),
            "row": row,
            "feature": feature,
        }
        if isinstance(acts, Activations):
            line |= acts.rows.iloc[row][["document", "position"]].to_dict()
        lines[layer] = line
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("layer")


def massive_activations(
    acts: Mapping[int, Any],
    model: Model | None = None,
    corpus: Any = None,
    *,
    above: float = 100.0,
    times: float = 1000.0,
) -> pd.DataFrame:
    """List where massive activations stand: the rows and features that hold one in any layer.

    Parameters
    ----------
    acts
        Activations, layer -> (n_rows, d). All layers must have the same features.
    model, corpus
        The model and the corpus that `acts` come from, to show the token of every row. None leaves the token out.
    above, times
        A value is massive if its size is above `above`, and above `times` the median size in its layer.

    Returns
    -------
    pandas.DataFrame
        One line per row and feature, largest ratio first: row, feature, first_layer and last_layer where it is massive,
        n_layers of them, and at the layer of the largest ratio: layer, value and ratio (to the median size). For
        activations from `extract` also document and position; with `model` also token.

    Raises
    ------
    InputError
        If layers have different features, or `model` is given for plain arrays, which have no positions.

    Notes
    -----
    The defaults are those of Sun et al. (2024, "Massive activations in large language models"). As they say themselves,
    the thresholds are a convention: a value at 900 times the median is no less real. Rows that were not sampled are not
    looked at.

    Examples
    --------
    >>> x = np.ones((9, 3)); x[4, 1] = -5000
    >>> massive_activations({0: np.ones((9, 3)), 1: x})[["row", "feature", "layer", "value"]].values.tolist()
    [[4.0, 1.0, 1.0, -5000.0]]
    """
    import pandas as pd

    from repsim_nb.comparison.closeup import tokens_at

    layers = {layer: as_matrix(values, f"layer {layer}") for layer, values in acts.items()}
    if len({x.shape for x in layers.values()}) > 1:
        raise InputError(
            f"Layers have the shapes {', '.join(str(tuple(x.shape)) for x in layers.values())}; expected one shape."
        )
    if model is not None and not isinstance(acts, Activations):
        raise InputError("model needs activations from extract; plain arrays have no tokens.")
    found = [_massive(layer, x, above, times) for layer, x in layers.items()]
    by_ratio = pd.concat(found).sort_values("ratio", ascending=False, kind="stable")
    places = by_ratio.groupby(["row", "feature"], sort=False)
    layers_of = places.layer.agg(first_layer="min", last_layer="max", n_layers="size")
    table = places.first().join(layers_of).reset_index()
    table = table[["row", "feature", "first_layer", "last_layer", "n_layers", "layer", "value", "ratio"]]
    if isinstance(acts, Activations):
        rows = acts.rows.iloc[table.row]
        table[["document", "position"]] = rows[["document", "position"]].to_numpy()
        if model is not None:
            table["token"] = tokens_at(model, rows, corpus).token.to_numpy()
    return table


def _massive(layer: int, x: Tensor, above: float, times: float) -> pd.DataFrame:
    """The massive activations of one layer: DataFrame(row, feature, layer, value, ratio)."""
    import pandas as pd

    size = x.abs()
    median = size.median().item()
    row, feature = torch.nonzero(size > max(above, times * median), as_tuple=True)
    value = x[row, feature].double().numpy(force=True)
    with np.errstate(divide="ignore"):
        ratio = np.abs(value) / median
    place = {"row": row.numpy(force=True), "feature": feature.numpy(force=True)}
    return pd.DataFrame({**place, "layer": layer, "value": value, "ratio": ratio})
