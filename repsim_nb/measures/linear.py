"""Base of the measures that whiten: they see two representations only through spectra and one overlap."""

from typing import ClassVar

import torch
from torch import Tensor

from repsim_nb.measures.features import BUFFERS, Features, Layer, Spectrum
from repsim_nb.measures.registry import Measure


def svd_bytes(n: int, d: int) -> int:
    """Working memory in bytes of the singular value decomposition of (n, d), without what it returns."""
    return 16 * n * d + 24 * min(n, d) ** 2 + BUFFERS


class Linear(Measure):
    """A measure of the spectra of x and y and of the overlap C = U_x'U_y (r_x, r_y) of their left singular vectors.

    In memory these come from a singular value decomposition of each side. They also follow from second moments, as
    X'X = V s^2 V' and C = s_x^-1 V_x' X'Y V_y s_y^-1, which can be added up over more rows than fit in memory.
    """

    centred: ClassVar[bool] = True
    moment_dtype = torch.float64  # whitening divides by small singular values

    def _prepare(self, x: Tensor, side: str) -> Layer:
        return self._from_layer(Features(x, side, self.centred))

    def _from_layer(self, x: Layer) -> Layer:
        _ = x.varied(self.name).spectrum  # the part that needs one side only
        return x

    def _kept_bytes(self, n: int, d: int) -> int:
        return 8 * (n + d) * min(n, d)

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        return svd_bytes(n, max(widths))

    def _score(self, p: Layer, q: Layer) -> float:
        return self._compare(p.spectrum, q.spectrum, p.overlap(q))

    def _compare(self, x: Spectrum, y: Spectrum, overlap: Tensor) -> float:
        raise NotImplementedError
