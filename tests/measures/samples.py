"""Configured measures and data for tests that are generated from what measures declare."""

from functools import cache

import numpy as np

from repsim_nb.measures import Measure, get_measure

N = 26
CLASSES = 5
LOGITS = ("jensen_shannon", "kl_divergence", "disagreement", "accuracy_difference")
LABELS = np.arange(N) % CLASSES
DOCUMENTS = np.arange(N) // 4

CONFIGURATIONS: list[tuple[str, dict]] = [
    ("cka", {}),
    ("cka", {"debiased": False}),
    ("cka", {"kernel": "rbf"}),
    ("cka", {"kernel": "rbf", "debiased": False, "bandwidth": 0.7}),
    ("cka", {"groups": DOCUMENTS}),
    ("cka", {"groups": DOCUMENTS, "kernel": "rbf"}),
    ("cka", {"batch": 10}),
    ("hsic", {}),
    ("hsic", {"debiased": False}),
    ("hsic", {"kernel": "rbf"}),
    ("hsic", {"kernel": "rbf", "debiased": False}),
    ("cca", {}),
    ("cca", {"summary": "mean_square"}),
    ("svcca", {}),
    ("svcca", {"components": 2}),
    ("pwcca", {}),
    ("eigenspace_overlap", {}),
    ("linear_regression", {}),
    ("ridge_predictivity", {}),
    ("ridge_predictivity", {"groups": DOCUMENTS, "folds": 4}),
    ("gulp", {}),
    ("gulp", {"regularization": 0}),
    ("procrustes", {}),
    ("procrustes_size_and_shape", {}),
    ("angular_shape", {}),
    ("angular_shape", {"alpha": 0.5}),
    ("angular_shape", {"alpha": 0}),
    ("permutation_procrustes", {}),
    ("aligned_cosine", {}),
    ("hard_matching", {}),
    ("soft_matching", {}),
    ("transport_matching", {}),
    ("rsa", {}),
    ("rsa", {"inner": "euclidean", "outer": "pearson"}),
    ("rsa", {"inner": "cosine", "outer": "kendall"}),
    ("rsm_norm_difference", {}),
    ("distance_correlation", {}),
    ("jaccard", {"k": 4}),
    ("jaccard", {"k": 4, "metric": "euclidean"}),
    ("mutual_knn", {"k": 4}),
    ("rank_similarity", {"k": 4}),
    ("second_order_cosine", {"k": 4}),
    ("joint_rank_jaccard", {"k": 4}),
    ("cknna", {"k": 4}),
    ("magnitude_difference", {}),
    ("concentricity_difference", {}),
    ("uniformity_difference", {}),
    ("imd", {}),
    ("rtd", {}),
    ("jensen_shannon", {}),
    ("kl_divergence", {}),
    ("disagreement", {}),
    ("accuracy_difference", {"labels": LABELS}),
]


def named(configuration: tuple[str, dict]) -> str:
    name, params = configuration
    return name + "".join(f"-{k}={v if np.ndim(v) == 0 else 'labels'}" for k, v in params.items())


@cache
def _configured(index: int) -> Measure:
    name, params = CONFIGURATIONS[index]
    return get_measure(name, **params)


MEASURES = [_configured(i) for i in range(len(CONFIGURATIONS))]
NAMES = [named(c) for c in CONFIGURATIONS]


def pair(measure: Measure, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two related representations of unequal width (equal for logits), neither centred, n well above d."""
    rng = np.random.default_rng(seed)
    if measure.name in LOGITS:
        x = 1.5 * rng.normal(size=(N, CLASSES))
        return x, x + rng.normal(size=(N, CLASSES))
    x = rng.normal(size=(N, 4)) * [1.0, 0.8, 0.6, 0.4] + 0.3 * rng.normal(size=4)
    y = x @ rng.normal(size=(4, 3)) / 2 + 0.4 * rng.normal(size=(N, 3)) + 0.3 * rng.normal(size=3)
    return x, y


def permutation(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.roll(x, 1 + rng.integers(x.shape[1] - 1), axis=1)


def orthogonal(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    q, _ = np.linalg.qr(rng.normal(size=(x.shape[1], x.shape[1])))
    return x @ q


def scale(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return x * rng.choice([0.2, 3.7])


def shift(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return x + 2 * rng.normal(size=x.shape[1])


def linear(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return orthogonal(x, rng) * np.geomspace(0.3, 3, x.shape[1])


TRANSFORMATIONS = {f.__name__: f for f in (permutation, orthogonal, scale, shift, linear)}
