"""Ways to compute debiased linear CKA of all pairs of layers: ours, packages from the index, loops that people write.

Packages are optional; a contender whose package is missing says so. Seconds and bytes are rough, to leave out what
would not end or not fit.
"""

import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from repsim_nb.measures import get_measure

Layers = Sequence[Tensor]
GRAM, PRODUCT = 4e-11, 3e-11  # seconds per entry of a float32 product and unit of its inner dimension


class Contender(NamedTuple):
    """Values of all pairs, (len(xs), len(ys)), and what n rows, width d and this many layers on each side take."""

    name: str
    package: str | None  # on the package index
    module: str | None
    grid: Callable[[Layers, Layers], np.ndarray]
    seconds: Callable[[int, int, int], float]
    bytes: Callable[[int, int, int], float]
    differs: str = ""  # how its values differ by more than rounding

    @property
    def version(self) -> str | None:
        """Of its package; None if that is not installed."""
        if self.package is None:
            return ""
        try:
            found = self.module and importlib.util.find_spec(self.module)
            return importlib.metadata.version(self.package) if found else None
        except importlib.metadata.PackageNotFoundError:
            return None


def ours(xs: Layers, ys: Layers) -> np.ndarray:
    measure = get_measure("cka")
    return measure.grid([measure.prepare(x, "x") for x in xs], [measure.prepare(y, "y") for y in ys])


def loop_over_features(xs: Layers, ys: Layers) -> np.ndarray:
    """|X'Y|^2, with the correction of Song et al. for what the diagonals of the Gram matrices add."""

    def hsic(x: Tensor, y: Tensor) -> float:
        n, x2, y2 = len(x), x.square().sum(1), y.square().sum(1)
        whole = (x.T @ y).square().sum().item()
        return whole - n / (n - 2) * (x2 @ y2).item() + (x2.sum() * y2.sum()).item() / ((n - 1) * (n - 2))

    xs, ys = ([x - x.mean(0) for x in side] for side in (xs, ys))
    cross = np.array([[hsic(x, y) for y in ys] for x in xs])
    alone = ([hsic(x, x) for x in side] for side in (xs, ys))
    return cross / np.sqrt(np.outer(*alone))


def loop_over_grams(xs: Layers, ys: Layers) -> np.ndarray:
    """Inner products of U-centred Gram matrices, all of which are kept."""

    def centred(x: Tensor) -> Tensor:
        x = x - x.mean(0)
        gram, n = x @ x.T, len(x)
        gram.fill_diagonal_(0)
        means = gram.sum(0) / (n - 2)
        means -= means.sum() / (2 * (n - 1))
        gram.sub_(means[:, None]).sub_(means).fill_diagonal_(0)
        return (gram / gram.norm()).flatten()

    ks, ls = ([centred(x) for x in side] for side in (xs, ys))
    return np.array([[(k @ l).item() for l in ls] for k in ks])  # noqa: E741


def pytorch_cka(xs: Layers, ys: Layers) -> np.ndarray:
    from cka import cka_from_features

    return cka_from_features(list(xs), list(ys)).numpy()


def ckatorch(xs: Layers, ys: Layers) -> np.ndarray:
    from ckatorch.core import cka_base

    return np.array([[cka_base(x, y, unbiased=True).item() for y in ys] for x in xs])


def repsim(xs: Layers, ys: Layers) -> np.ndarray:
    from repsim import cka

    return cka([x.numpy() for x in [*xs, *ys]], "linear", "song")[: len(xs), len(xs) :]


class Given(torch.nn.Module):
    """A model whose layers are the given matrices: what packages that only take models see."""

    class Layer(torch.nn.Module):
        def __init__(self, values: Tensor) -> None:
            super().__init__()
            self.values = values

        def forward(self, index: Tensor) -> Tensor:
            return self.values[index]

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(map(self.Layer, layers))
        self.parameter = torch.nn.Parameter(torch.zeros(1))

    def forward(self, index: Tensor) -> Tensor:
        for layer in self.layers:
            layer(index)
        return index


class _Silent:
    """Stands for tqdm."""

    def __new__(cls, steps, **_):
        return steps


def _models(xs: Layers, ys: Layers) -> tuple[Given, Given, list[str]]:
    return Given(xs), Given(ys), [f"layers.{k}" for k in range(len(xs))]


def _one_batch(n: int) -> torch.utils.data.DataLoader:
    index = torch.arange(n)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(index, index), batch_size=n)


def torch_cka(xs: Layers, ys: Layers) -> np.ndarray:
    from torch_cka import cka

    cka.tqdm = _Silent
    one, other, names = _models(xs, ys)
    with torch.no_grad():
        comparison = cka.CKA(one, other, "x", "y", names, names)
        comparison.compare(_one_batch(len(xs[0])), _one_batch(len(xs[0])))
    return comparison.export()["CKA"].numpy()


def cka_pytorch(xs: Layers, ys: Layers) -> np.ndarray:
    from cka_pytorch import CKACalculator

    one, other, names = _models(xs, ys)
    calculator = CKACalculator(one, other, names, names, verbose=False)
    return calculator.calculate_cka_matrix(_one_batch(len(xs[0])), num_epochs=1).numpy()


def _ours_bytes(n: int, d: int, layers: int) -> int:
    return get_measure("cka").memory(n, [d] * layers, [d] * layers)


def _ours_seconds(n: int, d: int, layers: int) -> float:
    return min(_features_seconds(n, d, layers), GRAM / 2 * n * n * (2 * layers * d + 4 * layers**2))


def _features_seconds(n: int, d: int, layers: int) -> float:
    return PRODUCT * n * d * d * (layers**2 + 2 * layers)


OURS = Contender("repsim-nb", None, None, ours, _ours_seconds, _ours_bytes)
CONTENDERS = (
    OURS,
    Contender(
        *("loop over X'Y", None, None, loop_over_features, _features_seconds),
        lambda n, d, layers: 4 * (2 * layers * n * d + 2 * d * d),
    ),
    Contender(
        *("loop over Gram matrices", None, None, loop_over_grams),
        lambda n, d, layers: n * n * (GRAM * 2 * layers * d + 2e-10 * (layers**2 + 20 * layers)),
        lambda n, d, layers: 4 * n * n * (2 * layers + 1),
    ),
    Contender(
        *("pytorch-cka", "pytorch-cka", "cka", pytorch_cka),
        lambda n, d, layers: n * n * (GRAM * 2 * layers * d + 1e-10 * layers**2 + 5e-9 * layers),
        lambda n, d, layers: 4 * n * n * 5 * layers,
        "not centred before float32 products; clipped to [0, 1]",
    ),
    Contender(
        *("ckatorch", "ckatorch", "ckatorch", ckatorch),
        lambda n, d, layers: layers**2 * n * n * (7e-8 + 8e-11 * d),
        lambda n, d, layers: 8 * (6 * n * n + 2 * n * d),
    ),
    Contender(
        *("repsim", "repsim", "repsim", repsim),
        lambda n, d, layers: n * n * (5e-8 * layers**2 + 6e-10 * layers * d),
        lambda n, d, layers: 8 * (2 * layers * (n * n + 2 * n * d) + 4 * n * n),
        "another estimator",
    ),
    Contender(
        *("torch-cka", "torch_cka", "torch_cka", torch_cka),
        lambda n, d, layers: layers**2 * (3 * PRODUCT * n**3 + GRAM * n * n * d),
        lambda n, d, layers: 4 * (4 * n * n + 2 * layers * n * d),
        "not centred before float32 products",
    ),
    Contender(
        *("cka-pytorch", "cka-pytorch", "cka_pytorch", cka_pytorch),
        lambda n, d, layers: (layers**2 + 2 * layers) * PRODUCT * n**3 + GRAM * 2 * layers * n * n * d,
        lambda n, d, layers: 4 * n * n * (2 * layers + 5 * min(64, layers**2)),
        "not centred before float32 products; 1e-4 added under the root",
    ),
)
