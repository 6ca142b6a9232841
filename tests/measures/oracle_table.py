"""Which of our measures gives what a public implementation calls by another name, and after what elementary step.

A record of reference/values.json names the implementation, its function, its convention and its value.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Transform = Callable[[float, np.ndarray, np.ndarray], float]


def same(value: float, x: np.ndarray, y: np.ndarray) -> float:
    return value


def centred(x: np.ndarray) -> np.ndarray:
    return x - x.mean(0)


def standardised_rows(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(1, keepdims=True)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def per_feature(x: np.ndarray) -> np.ndarray:
    return x / math.sqrt(x.shape[1])


@dataclass
class Ours:
    """How to get a peer's value: transform(measure(inputs(x), inputs(y)))."""

    name: str
    params: dict[str, Any] = field(default_factory=dict)
    transform: Transform = same
    inputs: Callable[[np.ndarray], np.ndarray] = np.asarray
    swapped: bool = False
    root: bool = False  # an arccos or square root: half of the digits near 0
    sized: bool = False  # in the units of the data
    rtol: float = 1e-8


def of(function: Callable[[float], float]) -> Transform:
    return lambda value, x, y: function(value)


complement = of(lambda v: 1 - v)
squared = of(lambda v: v * v)


def permutation_angle(d: float, x: np.ndarray, y: np.ndarray) -> float:
    a, b = np.linalg.norm(x), np.linalg.norm(y)
    return math.acos((a * a + b * b - d * d) / (2 * a * b))


def stress(d: float, x: np.ndarray, y: np.ndarray) -> float:
    return d / math.sqrt(len(x) * (len(x) - 1) / 2)


BIASED = {"debiased": False}
RBF = {"kernel": "rbf"}
LINEAR_CKA = Ours("cka", BIASED)
DEBIASED_CKA = Ours("cka")
ANGLE = Ours("angular_shape", root=True)
SIZE_AND_SHAPE = Ours("procrustes_size_and_shape", root=True, sized=True)

TABLE = {
    "cka_linear_biased": LINEAR_CKA,
    "cka_linear_dist": Ours("cka", BIASED, complement),
    "cka_linear_angular": Ours("cka", BIASED, of(math.acos), root=True),
    "cka_linear_debiased": DEBIASED_CKA,
    "cka_linear_debiased_dist": Ours("cka", {}, complement),
    "cka_linear_minibatch50": Ours("cka", {"batch": 50}),
    "cka_rbf_median_nonzero": Ours("cka", RBF | BIASED),
    "rsa_sqeuclid_over_d_cosine_cov": LINEAR_CKA,  # whitened RSA is linear CKA
    "rsa_1-pearson_cosine_cov": Ours("cka", BIASED, inputs=standardised_rows),
    "cca_mean": Ours("cca"),
    "cca_mean_sq": Ours("cca", {"summary": "mean_square"}),
    "cca_mean_sq_kornblith": Ours("cca", {"summary": "mean_square"}),
    "svcca_var99": Ours("svcca"),
    "svcca_dim10": Ours("svcca", {"components": 10}),
    "svcca_dim20": Ours("svcca", {"components": 20}),
    "pwcca_dist_morcos": Ours("pwcca", {}, complement),
    "pwcca_dist_morcos_swapped": Ours("pwcca", {}, complement, swapped=True),
    "linreg_r2": Ours("linear_regression"),
    "linreg_r2_swapped": Ours("linear_regression", swapped=True),
    "procrustes_centred_normalised": Ours("procrustes", root=True),
    "procrustes_sq_normalised": Ours("procrustes", {}, squared),
    "procrustes_half_sq_normalised": Ours("procrustes", {}, of(lambda d: d * d / 2)),
    "procrustes_disparity_scipy": Ours("procrustes", {}, of(lambda d: 1 - (1 - d * d / 2) ** 2)),
    "procrustes_size_shape": SIZE_AND_SHAPE,
    "euclidean_shape_alpha1": SIZE_AND_SHAPE,
    "wrongu_euclidean_shape_metric": SIZE_AND_SHAPE,
    "procrustes_sq_size_shape": Ours("procrustes_size_and_shape", {}, squared, sized=True),
    "angular_shape_alpha1": ANGLE,
    "wrongu_angular_shape_metric": ANGLE,
    # The peer raises negative eigenvalues, which leaves 7e-8 of the total variance: 1.00000007 for equal inputs.
    "rsa_sqeuclid_over_d_bures": Ours("angular_shape", {}, of(math.cos), rtol=1e-7),
    "rsa_1-pearson_bures": Ours("angular_shape", {}, of(math.cos), inputs=standardised_rows, rtol=1e-7),
    "rsa_sqeuclid_over_d_bures_metric": Ours(
        "procrustes_size_and_shape", {}, squared, inputs=per_feature, sized=True, rtol=2e-7
    ),
    "rsa_1-pearson_bures_metric": Ours(
        "procrustes_size_and_shape", {}, of(lambda d: d * d / 2), inputs=standardised_rows, sized=True, rtol=2e-7
    ),
    "angular_shape_alpha0.5": Ours("angular_shape", {"alpha": 0.5}, root=True),
    "angular_shape_alpha0": Ours("angular_shape", {"alpha": 0}, root=True),
    "perm_procrustes": Ours("permutation_procrustes", root=True, sized=True),
    "perm_euclidean_centred": Ours("permutation_procrustes", inputs=centred, root=True, sized=True),
    "perm_angular_uncentred": Ours("permutation_procrustes", {}, permutation_angle, root=True),
    "perm_angular_centred": Ours("permutation_procrustes", {}, permutation_angle, inputs=centred, root=True),
    "aligned_cosine": Ours("aligned_cosine"),
    "hard_correlation_match": Ours("hard_matching"),
    "soft_correlation_match": Ours("soft_matching"),
    "eigenspace_overlap": Ours("eigenspace_overlap"),
    "gulp_sq_lambda0": Ours("gulp", {"regularization": 0}, squared),
    "gulp_sq_lambda0.01": Ours("gulp", {"regularization": 0.01}, squared),
    "gulp_sq_lambda1": Ours("gulp", {"regularization": 1}, squared),
    "distance_correlation": Ours("distance_correlation"),
    "rsm_norm_diff_llm": Ours("rsm_norm_difference", root=True, sized=True),
    "wrongu_stress": Ours("rsm_norm_difference", {}, stress, root=True, sized=True),
    "jaccard_k10_cosine": Ours("jaccard"),
    "jaccard_k10_euclidean": Ours("jaccard", {"metric": "euclidean"}),
    "mutual_knn_k5": Ours("mutual_knn", {"k": 5}),
    "mutual_knn_k10": Ours("mutual_knn"),
    "rank_similarity_k10_cosine": Ours("rank_similarity"),
    "joint_rank_jaccard_k10": Ours("joint_rank_jaccard"),
    "magnitude_diff": Ours("magnitude_difference"),
    "concentricity_diff": Ours("concentricity_difference"),
    "uniformity_diff": Ours("uniformity_difference"),
}

RANK_OUTER = {"spearman": "spearman", "rho-a": "spearman", "kendall": "kendall", "tau-a": "kendall"}
for peer_inner, inner in {
    "correlation": "correlation",
    "1-pearson": "correlation",
    "cosine": "cosine",
    "euclidean": "euclidean",
    # Monotone functions of the euclidean distance, the same to ranks.
    "sqeuclid_over_d": "euclidean",
    "gaussian": "euclidean",
}.items():
    for peer_outer, outer in RANK_OUTER.items():
        TABLE[f"rsa_{peer_inner}_{peer_outer}"] = Ours("rsa", {"inner": inner, "outer": outer})
    if peer_inner not in ("sqeuclid_over_d", "gaussian"):
        for peer_outer in ("pearson", "corr"):
            TABLE[f"rsa_{peer_inner}_{peer_outer}"] = Ours("rsa", {"inner": inner, "outer": "pearson"})
TABLE["rsa_pearson_spearman"] = TABLE["rsa_correlation_spearman"]

# Records under a name of the table whose convention is another one all the same: (name, peer) and why.
DIFFERENT = {
    ("cka_rbf_median_nonzero", "Flegyas/latentis"): "takes the lower of the two middle distances as the median",
    ("cka_linear_debiased", "minyoungg/platonic-rep"): "adds 1e-6 to the denominator",
    ("cka_linear_biased", "minyoungg/platonic-rep"): "adds 1e-6 to the denominator",
}
# When the side that gives the weights is the wider, the peer sums over arbitrary null directions.
ILL_DEFINED = {("pwcca_dist_morcos_swapped", "indep_200x32_48")}

UNCOVERED = {
    "another bandwidth convention: fixed sigma, or a median that includes the zero diagonal": (
        "cka_rbf_sigma2, cka_rbf_sigma2_debiased, cka_rbf_median0.5, cka_rbf_median0.5_debiased, cka_rbf_median1, "
        "cka_rbf_median1_debiased"
    ),
    "ours is centred by definition": "procrustes_uncentred, angular_shape_alpha1_uncentred",
    "a defect: see the docstrings of svcca and pwcca": "svcca_dist_anatome99, pwcca_dist_anatome, cca_mean_trunc98",
    "a defect: see the docstrings of second_order_cosine and rsm_norm_difference": (
        "second_order_cosine_dist_k10, rsm_norm_diff_spectral"
    ),
    "adds 1e-6 to the denominator (ours agrees to 1e-3, tested)": "cknna_k5, cknna_k10",
    "no such member in the set": (
        "perm_aligned_cosine, rsa_pearson_euclidean, magnitude_nrmse, concentricity_nrmse, euclidean_shape_alpha0.5, "
        "euclidean_shape_alpha0, cka_prime_dist, cycle_knn_k5, cycle_knn_k10, lcs_knn_k5, lcs_knn_k10, "
        "principal_angles_max, distance_correlation_u_sqr, wrongu_angular_cka, geometry_score, rsa_gaussian_pearson, "
        "rsa_sqeuclid_over_d_cosine, rsa_sqeuclid_over_d_corr, rsa_1-pearson_cosine, rsa_sqeuclid_over_d_corr_cov, "
        "rsa_sqeuclid_over_d_neg_riem_dist"
    ),
    "tested apart: random": "imd",
    "tested apart: directed, where ours is the mean of both": "rtd_directed_XY, rtd_directed_YX",
}
