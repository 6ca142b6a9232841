"""What the linear measures share: they see two representations only through their second moments."""

from typing import NamedTuple

import torch
from torch import Tensor

from repsim_nb.measures.features import Features
from repsim_nb.measures.registry import Measure


class Spectrum(NamedTuple):
    """Singular values (r,) and right singular vectors (r, d) of one representation, in its own units."""

    s: Tensor
    vh: Tensor

    @classmethod
    def of_moment(cls, moment: Tensor) -> "Spectrum":
        """From X'X, which squares singular values: those below 1e-8 of the largest are lost."""
        values, vectors = torch.linalg.eigh(moment)
        kept = values > 8 * torch.finfo(moment.dtype).eps * values.sum()
        return cls(values[kept].sqrt().flip(0), vectors[:, kept].T.flip(0))


class Linear(Measure):
    """A measure of the spectra of x and y and of the overlap C = U_x'U_y (r_x, r_y) of their left singular vectors.

    In memory these come from a singular value decomposition of each side. They also follow from second moments, as
    X'X = V s^2 V' and C = s_x^-1 V_x' X'Y V_y s_y^-1, which can be added up over rows too many to hold.
    """

    centred = True

    def _prepare(self, x: Tensor, side: str) -> tuple[Tensor, Spectrum]:
        features = Features(x, side, self.centred).varied(self.name)
        u, s, vh = features.svd
        return u, Spectrum(s * features.unit, vh)

    def _score(self, p: tuple[Tensor, Spectrum], q: tuple[Tensor, Spectrum]) -> float:
        (u, x), (v, y) = p, q
        return self._compare(x, y, u.T @ v)

    def from_moments(self, xx: Tensor, yy: Tensor, xy: Tensor) -> float:
        """The value from X'X (d_x, d_x), Y'Y and X'Y in float64, of centred columns where the measure centres."""
        x, y = Spectrum.of_moment(xx), Spectrum.of_moment(yy)
        overlap = (x.vh @ xy @ y.vh.T) / (x.s[:, None] * y.s)
        return self._within_bounds(self._compare(x, y, overlap), self.bounds)

    def _compare(self, x: Spectrum, y: Spectrum, overlap: Tensor) -> float:
        raise NotImplementedError
