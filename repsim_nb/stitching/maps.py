"""Maps from one model's residual stream into another's, each with a least-squares fit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repsim_nb.errors import InputError

RIDGE = 1e-6  # relative to the mean variance of the sender's features


@dataclass(frozen=True)
class SenderMoments:
    """Mean and centred second moments of sender rows x, float64, and what is factored once for all fits from them."""

    mean: Tensor
    xx: Tensor

    @cached_property
    def spectrum(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues and eigenvectors of the second moments."""
        variances, axes = torch.linalg.eigh(self.xx)
        return variances, axes


@dataclass(frozen=True)
class CrossProducts:
    """Means and centred second moments of sender rows x and receiver rows y, float64."""

    sender: SenderMoments
    mean_y: Tensor
    xy: Tensor
    yy: float

    @property
    def mean_x(self) -> Tensor:
        """Mean of x."""
        return self.sender.mean

    @property
    def xx(self) -> Tensor:
        """Second moments of x."""
        return self.sender.xx

    @classmethod
    def of(cls, pairs: Iterable[tuple[Tensor, Tensor]]) -> CrossProducts:
        """Accumulate over parts ((rows, d_x), (rows, d_y))."""
        return cls.of_several((x, [y]) for x, y in pairs)[0]

    @classmethod
    def of_several(cls, pairs: Iterable[tuple[Tensor, Sequence[Tensor]]]) -> list[CrossProducts]:
        """The same for several receivers' rows, which share the moments of x; one part is in memory at a time.

        Rows are taken from the means of the first part, so that a large mean costs no digits.
        """
        n, sums = 0, _Sums(torch.zeros(0), [])
        for x, ys in pairs:
            if not n:
                sums = _Sums(x.double().mean(0), [y.double().mean(0) for y in ys])
            sums.add(x, ys)
            n += len(x)
        shift = sums.x / n
        own = SenderMoments(sums.origin + shift, sums.xx / n - torch.outer(shift, shift))
        made = []
        for origin, y, xy, yy in zip(sums.origins, sums.ys, sums.xys, sums.yys, strict=True):
            mean = y / n
            made.append(
                cls(own, origin + mean, xy / n - torch.outer(shift, mean), (yy / n - mean.square().sum()).item())
            )
        return made


class _Sums:
    """Sums of rows, of their products and of the squares of y, from an origin each."""

    def __init__(self, origin: Tensor, origins: list[Tensor]) -> None:
        self.origin, self.origins = origin, origins
        self.x, self.ys = torch.zeros_like(origin), [torch.zeros_like(of) for of in origins]
        self.xx = origin.new_zeros(len(origin), len(origin))
        self.xys = [origin.new_zeros(len(origin), len(of)) for of in origins]
        self.yys = [origin.new_zeros(()) for _ in origins]

    def add(self, x: Tensor, ys: Sequence[Tensor]) -> None:
        """Add a part."""
        x = x.double() - self.origin
        self.x += x.sum(0)
        self.xx += x.T @ x
        for place, (y, origin) in enumerate(zip(ys, self.origins, strict=True)):
            y = y.double() - origin
            self.ys[place] += y.sum(0)
            self.xys[place] += x.T @ y
            self.yys[place] += y.square().sum()


class Map(nn.Module, ABC):
    """A map (..., d_x) -> (..., d_y)."""

    def __init__(self, *_: int) -> None:
        super().__init__()

    def __call__(self, x: Tensor) -> Tensor:
        """Map rows, those of a half precision in float32."""
        mapped: Tensor = super().__call__(_single(x))
        return mapped

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Map sender rows into the receiver's space."""

    def prepared(self, x: Tensor) -> Tensor:
        """The input that the least-squares fit sees."""
        return x

    @abstractmethod
    def solve(self, moments: CrossProducts) -> None:
        """Set the parameters to the least-squares fit."""


class Identity(Map):
    """The identity, with nothing to fit."""

    def __init__(self, d_x: int, d_y: int) -> None:
        super().__init__()
        if d_x != d_y:
            raise InputError(
                f"map='identity' needs equal widths; the sender has {d_x}, the receiver {d_y}. Use map='affine'."
            )

    def forward(self, x: Tensor) -> Tensor:
        """x."""
        return x

    def solve(self, moments: CrossProducts) -> None:
        """Nothing to do."""


class Affine(Map):
    """x W + b, W (d_x, d_y).

    W is parametrised as a product with the inverse square root of the sender's covariance, so that a gradient step
    changes all directions that the sender uses equally. Without this Adam needs many more steps.
    """

    centre: Tensor
    whitening: Tensor
    unit: Tensor

    def __init__(self, d_x: int, d_y: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(d_x))
        self.register_buffer("whitening", torch.eye(d_x))
        self.register_buffer("unit", torch.ones(()))
        self.whitened = nn.Parameter(torch.zeros(d_x, d_y))
        self.offset = nn.Parameter(torch.zeros(d_y))

    @property
    def weight(self) -> Tensor:
        """W, (d_x, d_y)."""
        return self.whitening @ self._inner() * self.unit

    @property
    def bias(self) -> Tensor:
        """b, (d_y,)."""
        return self.offset * self.unit - self.centre @ self.weight

    def _inner(self) -> Tensor:
        return self.whitened

    def forward(self, x: Tensor) -> Tensor:
        """x W + b."""
        return F.linear(x, self.weight.T, self.bias)

    def solve(self, moments: CrossProducts) -> None:
        """Ridge regression of y on x."""
        variances, axes = moments.sender.spectrum
        ridge = RIDGE * variances.mean().clamp_min(torch.finfo(torch.float32).tiny)
        roots = (variances.clamp_min(0) + ridge).sqrt()
        unit = (moments.yy / len(moments.mean_y)) ** 0.5 or 1.0
        whitening = axes / roots @ axes.T
        with torch.no_grad():
            self.centre.copy_(moments.mean_x)
            self.whitening.copy_(whitening)
            self.unit.fill_(unit)
            self._start(whitening @ moments.xy / unit)
            self.offset.copy_(moments.mean_y / unit)

    def _start(self, whitened: Tensor) -> None:
        self.whitened.copy_(whitened)


class AffineNorm(Affine):
    """LayerNorm, then an affine map: the form of Brown et al. 2023 (App. C), who leave the order of the two open.

    The norm has no gain and bias of its own, since the affine map absorbs them.
    """

    def prepared(self, x: Tensor) -> Tensor:
        """x with every row scaled to mean 0 and variance 1."""
        return F.layer_norm(_single(x), x.shape[-1:])

    def forward(self, x: Tensor) -> Tensor:
        """LayerNorm(x) W + b."""
        return super().forward(self.prepared(x))


class LowRank(Affine):
    """x A B + b with A (d_x, rank) and B (rank, d_y), initialised by reduced-rank regression."""

    def __init__(self, d_x: int, d_y: int, rank: int) -> None:
        super().__init__(d_x, d_y)
        if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= min(d_x, d_y):
            raise InputError(f"rank={rank!r}; expected a whole number between 1 and {min(d_x, d_y)}.")
        del self.whitened
        self.down, self.up = nn.Parameter(torch.zeros(d_x, rank)), nn.Parameter(torch.zeros(rank, d_y))

    def _inner(self) -> Tensor:
        return self.down @ self.up

    def _start(self, whitened: Tensor) -> None:
        u, s, vh = torch.linalg.svd(whitened, full_matrices=False)
        rank = self.down.shape[1]
        root = s[:rank].sqrt()
        self.down.copy_(u[:, :rank] * root)
        self.up.copy_(root[:, None] * vh[:rank])


class Orthogonal(Map):
    """scale x Q + b with orthonormal columns or rows in Q (d_x, d_y), initialised by Procrustes (Schoenemann 1966)."""

    centre: Tensor
    rotation: Tensor
    unit: Tensor

    def __init__(self, d_x: int, d_y: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(d_x))
        self.register_buffer("rotation", torch.eye(d_x, d_y))
        self.register_buffer("unit", torch.ones(()))
        self.turn = nn.Parameter(torch.zeros(d_x, d_x))  # only its skew part counts, applied on top of `rotation`
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.offset = nn.Parameter(torch.zeros(d_y))

    @property
    def weight(self) -> Tensor:
        """scale Q, (d_x, d_y)."""
        skew = self.turn - self.turn.T
        return self.log_scale.exp() * (torch.linalg.matrix_exp(skew) @ self.rotation)

    @property
    def bias(self) -> Tensor:
        """b, (d_y,)."""
        return self.offset * self.unit - self.centre @ self.weight

    def forward(self, x: Tensor) -> Tensor:
        """scale x Q + b."""
        return F.linear(x, self.weight.T, self.bias)

    def solve(self, moments: CrossProducts) -> None:
        """Orthogonal Procrustes with scale and shift."""
        u, s, vh = torch.linalg.svd(moments.xy, full_matrices=False)
        with torch.no_grad():
            self.centre.copy_(moments.mean_x)
            self.rotation.copy_(u @ vh)
            self.turn.zero_()
            spread = (self.rotation.double().T @ moments.xx @ self.rotation.double()).trace()
            self.log_scale.copy_((s.sum() / spread).log())
            self.unit.fill_((moments.yy / len(moments.mean_y)) ** 0.5 or 1.0)
            self.offset.copy_(moments.mean_y / self.unit)


MAPS: dict[str, type[Map]] = {
    "identity": Identity,
    "orthogonal": Orthogonal,
    "affine": Affine,
    "affine_norm": AffineNorm,
    "low_rank": LowRank,
}


def _single(x: Tensor) -> Tensor:
    """At least float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
