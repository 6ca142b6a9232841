"""Representations whose true similarity is known: documents of clustered tokens, two models that share some of it."""

from typing import NamedTuple

import numpy as np

CLUSTERING = 1.0  # variance of the documents' means, that of tokens around them being 1


class Pair(NamedTuple):
    """Rows of two models, (n, d) each, and the document of each row."""

    x: np.ndarray
    y: np.ndarray
    documents: np.ndarray


class Population:
    """Two models of which the second sees `shared` of the first's latent features and as much that is its own.

    Args:
        d: features of each.
        shared: weight of what both have, 0 (unrelated) to 1 (the same up to a linear map).
        seed: of the two linear maps.
    """

    def __init__(self, d: int = 8, shared: float = 0.6, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.d, self.shared = d, shared
        scale = np.arange(1.0, d + 1) ** -0.5
        self.to_x, self.to_y = rng.normal(size=(2, d, d)) * scale

    def sample(self, documents: int, tokens: int, rng: np.random.Generator) -> Pair:
        """Rows of that many documents of that many tokens."""
        own, other = (self._latent(documents, tokens, rng) for _ in range(2))
        both = self.shared * own + np.sqrt(1 - self.shared**2) * other
        return Pair(own @ self.to_x, both @ self.to_y, np.repeat(np.arange(documents), tokens))

    def _latent(self, documents: int, tokens: int, rng: np.random.Generator) -> np.ndarray:
        mean = rng.normal(size=(documents, 1, self.d)) * CLUSTERING**0.5
        return (mean + rng.normal(size=(documents, tokens, self.d))).reshape(-1, self.d)

    @property
    def cka(self) -> float:
        """|Cov(x, y)|^2 / (|Cov x| |Cov y|), what CKA of infinitely many documents is."""
        return self.shared**2 * _norm(self.to_x.T @ self.to_y) ** 2 / (_norm(self._xx) * _norm(self._yy))

    @property
    def procrustes(self) -> float:
        """Normalised orthogonal Procrustes distance of infinitely many documents."""
        nuclear = self.shared * np.linalg.svd(self.to_x.T @ self.to_y, compute_uv=False).sum()
        return float(np.sqrt(2 - 2 * nuclear / np.sqrt(np.trace(self._xx) * np.trace(self._yy))))

    @property
    def _xx(self) -> np.ndarray:
        return self.to_x.T @ self.to_x

    @property
    def _yy(self) -> np.ndarray:
        return self.to_y.T @ self.to_y


def unrelated_grids(
    layers: int, documents: int, tokens: int, d: int, rng: np.random.Generator
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray], np.ndarray]:
    """Two models that have nothing in common, neighbouring layers of each alike, and the document of each row."""

    def model() -> dict[int, np.ndarray]:
        population = Population(d, 0.9, int(rng.integers(2**31)))
        hidden = [population._latent(documents, tokens, rng)]
        for _ in range(layers - 1):
            hidden.append(0.8 * hidden[-1] + 0.6 * population._latent(documents, tokens, rng))
        return {i: h @ population.to_x for i, h in enumerate(hidden)}

    return model(), model(), np.repeat(np.arange(documents), tokens)


def _norm(matrix: np.ndarray) -> float:
    return float(np.linalg.norm(matrix))
