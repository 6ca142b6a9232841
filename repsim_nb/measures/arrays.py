"""Read anything that holds numbers as one matrix of rows and features, or refuse it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from repsim_nb.errors import InputError

EXACT = 2**53  # float64 holds every integer up to here


def is_array(x: Any) -> bool:
    """Whether x is a single layer: a tensor, an array, a data frame or nested lists of numbers.

    Examples
    --------
    >>> is_array([[1.0, 2.0]]), is_array({0: [[1.0, 2.0]]})
    (True, False)
    """
    if isinstance(x, list | tuple):
        return bool(x) and (is_array(x[0]) or isinstance(x[0], int | float | complex | np.generic))
    return isinstance(x, Tensor) or hasattr(x, "__array__")


def as_matrix(x: Any, side: str) -> Tensor:
    """Return x as a tensor (n, d) of finite floating-point numbers.

    Parameters
    ----------
    x
        A dense tensor, a numpy array, a data frame, or anything else that numpy reads as an array of real numbers.
    side
        What messages call it.

    Returns
    -------
    torch.Tensor
        In float64 for float64 and integers, in float32 for float32 and lower precision. On MPS it is moved to the CPU.

    Raises
    ------
    InputError
        x holds no real numbers, or has masked, missing or infinite values, more or fewer than two dimensions, no rows
        or no features, or integers beyond 2**53.

    Examples
    --------
    >>> as_matrix([[1, 2], [3, 4]], "x").dtype
    torch.float64
    """
    if isinstance(x, list | tuple):
        x = _nested(x, side)
    x = _tensor(x, side) if isinstance(x, Tensor) else torch.from_numpy(_array(x, side))
    if x.ndim != 2 or 0 in x.shape:
        ways = {0: "", 1: " One feature is x[:, None].", 2: ""}
        more = ways.get(x.ndim, " Flatten all but the last dimension, or give one matrix for each layer.")
        shape = tuple(x.shape)
        raise InputError(f"{side} has shape {shape}, expected (rows, features) with at least one of each.{more}")
    given, x = x.dtype, x.detach()
    if x.device.type == "mps":
        x = x.cpu()  # MPS has no float64, which sums need
    x = x.to(torch.float32 if given.is_floating_point and given.itemsize <= 4 else torch.float64)
    if not torch.isfinite(x.sum()):  # cheap, but a sum may also overflow, so look closely
        bad = ~torch.isfinite(x)
        if bad.any():
            row, column = bad.nonzero()[0].tolist()
            half = " float16 holds nothing beyond 65,504." if given is torch.float16 else ""
            raise InputError(
                f"{side} has {int(bad.sum())} values that are NaN or infinite, the first at row {row}, column "
                f"{column} ({x[row, column].item()}).{half} Find out where they come from, or drop those rows on both "
                "sides."
            )
    return x


def check_order(x: Any, y: Any) -> None:
    """Check that two data frames label their rows alike: row i of both must be the same stimulus.

    Raises
    ------
    InputError
        Both are data frames of one length with different row labels.
    """
    ours, theirs = (getattr(side, "index", None) if hasattr(side, "iloc") else None for side in (x, y))
    if ours is not None and theirs is not None and len(ours) == len(theirs) and not ours.equals(theirs):
        raise InputError(
            "x and y are data frames with different row labels; row i of both must be the same stimulus. Sort them "
            "into the same order, or call reset_index(drop=True) on both if they already are."
        )


def _refused(x: Any, side: str, instead: str = "") -> InputError:
    kind = " ".join(str(part) for part in (type(x).__name__, getattr(x, "dtype", ""), getattr(x, "layout", "")))
    return InputError(
        f"{side} must be a dense real torch tensor or numpy array of shape (rows, features), got {kind.strip()}."
        + instead
    )


def _tensor(x: Tensor, side: str) -> Tensor:
    """Return x unchanged if it is a plain, dense, real tensor."""
    if type(x) not in (Tensor, torch.nn.Parameter):
        raise _refused(x, side, " Pass the plain tensor it wraps, without masked or missing values.")
    if x.is_meta:
        raise _refused(x, side, " A meta tensor holds no values. Load or compute them first.")
    if x.is_quantized:
        raise _refused(x, side, " Call x.dequantize() first.")
    if x.layout is not torch.strided or x.is_nested:
        raise _refused(x, side, " Call x.to_dense() first.")
    if x.is_complex():
        raise _refused(x, side, " Stack the real and imaginary parts as features, if you want both.")
    if not x.is_floating_point() and x.dtype is not torch.bool:
        try:
            exact = bool(((x <= EXACT) & (x >= -EXACT)).all()) if x.dtype.itemsize > 4 else True
        except RuntimeError:  # dtypes that torch barely supports
            raise _refused(x, side, " Convert it to float32 first.") from None
        if not exact:
            raise _too_large(side)
    return x


def _nested(x: Any, side: str) -> Any:
    """Lists of rows as one array or tensor."""
    if x and all(isinstance(row, Tensor) for row in x):
        if len({row.shape for row in x}) > 1:
            raise _refused(x, side, " Its rows differ in length.")
        return torch.stack(list(x))
    if any(np.ma.isMaskedArray(row) for row in x):
        return np.ma.stack(x)
    try:
        return np.array(x)
    except (ValueError, TypeError):
        raise _refused(x, side, " Its rows differ in length, or are not numbers.") from None


def _array(x: Any, side: str) -> np.ndarray:
    """An array that torch can read: writable, contiguous, of a supported dtype."""
    if not hasattr(x, "__array__"):
        instead = " Call x.toarray() first." if hasattr(x, "toarray") else ""
        raise _refused(x, side, instead)
    if hasattr(x, "isna") and hasattr(x, "columns"):
        x = _frame(x, side)
    array = x if np.ma.isMaskedArray(x) else np.asarray(x)
    if np.ma.isMaskedArray(array):
        masked = np.ma.getmaskarray(array)
        if masked.any():
            first = tuple(int(i) for i in np.argwhere(masked)[0])
            raise InputError(
                f"{side} has {int(masked.sum())} masked values, the first at {first}. Drop those rows on both sides, "
                "or fill them in with x.filled(value)."
            )
        array = array.data
    if array.dtype.kind not in "fiub":
        raise _refused(array, side, " Convert it to numbers first.")
    if array.dtype.kind in "iu" and array.dtype.itemsize > 4 and array.size and _largest(array) > EXACT:
        raise _too_large(side)
    native = array.dtype.newbyteorder("=") if array.dtype.kind == "f" and array.dtype.itemsize <= 8 else np.float64
    array = np.require(array, native, ["C", "W", "A"])
    return array.copy() if any(stride < 0 for stride in array.strides) else array


def _frame(x: Any, side: str) -> np.ndarray:
    """The values of a pandas data frame without missing values."""
    missing = x.isna().to_numpy()
    if missing.any():
        row, column = (int(i) for i in np.argwhere(missing)[0])
        raise InputError(
            f"{side} has {int(missing.sum())} missing values (NaN), the first at row {x.index[row]!r}, column "
            f"{x.columns[column]!r}. Drop those rows on both sides, or fill them in."
        )
    array = x.to_numpy()
    if array.dtype.kind != "O":
        return array
    # columns with pandas' own dtypes, such as Int64
    numeric = all(getattr(dtype, "_is_numeric", False) or dtype.kind in "fiub" for dtype in x.dtypes)
    return x.to_numpy(dtype=np.float64) if numeric else array


def _largest(array: np.ndarray) -> int:
    return max(int(array.max()), -int(array.min()))


def _too_large(side: str) -> InputError:
    return InputError(
        f"{side} holds integers beyond 2**53, which float64 cannot tell apart. Subtract a constant from each feature "
        "first, as integers."
    )
