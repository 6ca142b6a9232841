"""Sums of HSIC within batches of rows: linear and RBF CKA in constant memory for any number of rows and any width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.measures.accumulation import Accumulator, Layers
from repsim_nb.measures.features import Features
from repsim_nb.measures.kernels import Gram, Kernel, kept_products, tile_bytes

LEAST = 4  # rows that HSIC1 needs
Products = tuple[np.ndarray, np.ndarray, np.ndarray]  # of a with b, of a and of b with themselves


def unbiased_products(ps: Sequence[Gram], qs: Sequence[Gram]) -> Products:
    """HSIC1 of all pairs, and of ps and qs with themselves, in the units of the data."""
    pairs = ps[0].n * (ps[0].n - 3)
    units_p, units_q = (np.array([g.unit for g in side]) for side in (ps, qs))
    cross, self_p, self_q = kept_products(ps, qs)
    return cross * np.outer(units_p, units_q) ** 2 / pairs, self_p * units_p**4 / pairs, self_q * units_q**4 / pairs


class BatchSums(Accumulator):
    """Sums of HSIC1 over consecutive batches of `batch` rows (the last one or two are shorter).

    Parameters
    ----------
    layers_a, layers_b
        Layer -> width; layers_b=None compares a with itself.
    batch
        Rows of a batch, at least 8.
    kernel, bandwidth
        As in `CKA`.
    dtype
        Precision of products, float32 or float64.

    Notes
    -----
    How the number misleads: the sums depend on which rows share a batch, and so on the order of rows. Rows of one
    document in one batch raise HSIC.
    """

    kind = "HSIC of batches"

    def __init__(
        self,
        layers_a: Layers,
        layers_b: Layers | None = None,
        batch: int = 256,
        kernel: Kernel = "linear",
        bandwidth: float = 1.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        # holding 4 rows back leaves enough for a last batch, wherever the rows end
        super().__init__(layers_a, layers_b, dtype, batch + LEAST)
        self.batch, self.kernel, self.bandwidth = batch, kernel, bandwidth
        a, b = self.sides
        self.cross = torch.zeros(len(a), len(b), dtype=torch.float64)
        self.alone = torch.zeros(len(self.widths), dtype=torch.float64)

    @property
    def nbytes(self) -> int:
        """Most bytes ever held; known before the first row."""
        size = self.dtype.itemsize
        return 3 * size * self.capacity * sum(self.widths) + tile_bytes(self.batch, self.widths, size)

    def _digest(self, rows: Tensor) -> int:
        self._batch(rows[: self.batch])
        return self.batch

    def _batch(self, rows: Tensor) -> None:
        grams = [
            Gram(Features(rows[:, span], self.name(i)).varied("cka"), self.kernel, True, None, self.bandwidth)
            for i, span in enumerate(self.spans)
        ]
        a, b = self.sides
        cross, self_a, self_b = unbiased_products([grams[i] for i in a], [grams[j] for j in b])
        self.cross += torch.from_numpy(cross)
        self.alone += torch.from_numpy(self_a if self.layers_b is None else np.concatenate([self_a, self_b]))

    def settle(self) -> None:
        """Digest all waiting rows; rows added later start a new batch.

        Raises
        ------
        InputError
            Fewer than 4 rows are waiting, too few for a batch.
        """
        if not self._waiting:
            return
        if self._waiting < LEAST:
            raise InputError(
                f"{self!r} ends with {self._waiting} rows, but a batch needs {LEAST}. Add more rows first."
            )
        assert self._rows is not None
        for part in self._rows[: self._waiting].tensor_split(1 if self._waiting <= self.batch else 2):
            self._batch(part)
        self._release(self._waiting)

    def totals(self) -> Products:
        """Sums of HSIC1 of a with b, of a with itself and of b with itself."""
        self.settle()
        a, b = self.sides
        return self.cross.numpy(), self.alone.numpy()[list(a)], self.alone.numpy()[list(b)]

    def _merge(self, other: BatchSums) -> None:
        self.cross += other.cross
        self.alone += other.alone

    def _signature(self) -> dict[str, Any]:
        return super()._signature() | {name: getattr(self, name) for name in ("batch", "kernel", "bandwidth")}

    def _tensors(self) -> dict[str, Tensor]:
        return {"cross": self.cross, "alone": self.alone}

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        self.cross, self.alone = tensors["cross"], tensors["alone"]

    @classmethod
    def _empty(cls, signature: Mapping[str, Any]) -> BatchSums:
        a, b = signature["layers_a"], signature["layers_b"]
        own = {name: signature[name] for name in ("batch", "kernel", "bandwidth")}
        return cls(dict(a), None if b is None else dict(b), dtype=getattr(torch, signature["dtype"]), **own)
