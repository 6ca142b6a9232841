"""Measures of two models' predictions: x and y are logits (n, classes), the same classes in the same order."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.measures.registry import Measure, register

AT_ONCE = 2**18  # probabilities processed at a time


class _Functional(Measure):
    """Base class of measures on logits."""

    direction = "dissimilarity"
    min_rows = 1
    cost = "n d"
    reference = "Klabunde et al. 2023"

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        return 25 * n  # an answer of each side and row, and whether they differ

    def _prepare(self, x: Tensor, side: str) -> Tensor:
        if x.shape[1] < 2:
            raise InputError(f"{self.name}: {side} has one column; logits need one for each of at least 2 classes.")
        return x

    def _score(self, p: Tensor, q: Tensor) -> float:
        if p.shape[1] != q.shape[1]:
            raise InputError(
                f"{self.name}: x has {p.shape[1]} classes, y has {q.shape[1]}; both need the same classes."
            )
        return self._compare(p, q)

    def _compare(self, p: Any, q: Any) -> float:
        raise NotImplementedError


class _Probabilities(_Functional):
    """Base class of measures on softmax probabilities, prepared as log-probabilities in float64."""

    def _kept_bytes(self, n: int, d: int) -> int:
        return 8 * n * d

    def _work_bytes(self, n: int, widths: list[int], wide: tuple[int, int]) -> int:
        return 60 * min(n * max(widths), max(AT_ONCE, max(widths)))

    def _prepare(self, x: Tensor, side: str) -> Tensor:
        x = super()._prepare(x, side)
        prepared = x.new_empty(x.shape, dtype=torch.float64)
        for part, out in zip(_parts(x), _parts(prepared), strict=True):
            torch.log_softmax(out.copy_(part), dim=1, out=out)
        return prepared

    def _compare(self, p: Tensor, q: Tensor) -> float:
        rows = torch.cat([self._of_rows(*part) for part in zip(_parts(p), _parts(q), strict=True)])
        return rows.mean().item()

    def _of_rows(self, p: Tensor, q: Tensor) -> Tensor:
        """One value for each row."""
        raise NotImplementedError


def _parts(x: Tensor) -> tuple[Tensor, ...]:
    """x in parts of at most `AT_ONCE` numbers, or one row."""
    return x.split(max(1, AT_ONCE // x.shape[1]))


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) of every row, in nats; classes with p = 0 add nothing."""
    return torch.where(log_p == -math.inf, 0.0, log_p.exp() * (log_p - log_q)).sum(1)


@register
class JensenShannon(_Probabilities):
    """Mean Jensen-Shannon divergence of the predictions softmax(x) and softmax(y), in bits.

    Raises
    ------
    InputError
        One class; different numbers of classes.

    Notes
    -----
        mean_i [KL(p_i || m_i) + KL(q_i || m_i)] / 2,   m = (p + q) / 2

    x and y are logits (n, classes), the same classes in the same order. A dissimilarity in [0, 1]: 0 = the same
    predictions, 1 = certain and different. Not a metric (its square root is, row by row).

    How the number misleads: confidence counts. Two models that give the same answers, one of them more surely, differ,
    and two that are unsure of different answers hardly do. The mean hides whether all rows differ a little or a few
    rows entirely.

    References
    ----------
    .. [1] Lin (1991). Divergence measures based on the Shannon entropy. IEEE Transactions on Information Theory 37.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> get_measure("jensen_shannon")([[0.0, 99.0]], [[99.0, 0.0]])
    1.0
    """

    name = "jensen_shannon"
    title = "Jensen-Shannon divergence of predictions"
    bounds = (0.0, 1.0)
    reference = "Lin 1991"

    def _of_rows(self, p: Tensor, q: Tensor) -> Tensor:
        middle = torch.logaddexp(p, q).sub_(math.log(2))
        return (divergence(p, middle) + divergence(q, middle)) / (2 * math.log(2))


@register
class KLDivergence(_Probabilities):
    """Mean Kullback-Leibler divergence KL(softmax(x) || softmax(y)), in nats, the unit of losses.

    Raises
    ------
    InputError
        One class; different numbers of classes.

    Notes
    -----
        mean_i sum_c p_ic (log p_ic - log q_ic)

    x and y are logits (n, classes), the same classes in the same order. A dissimilarity in [0, inf), not symmetric: x
    is taken as the truth.

    How the number misleads: it has no upper bound, so a few rows on which y is sure and wrong can make up most of the
    mean. Swapping x and y gives another number. What y says about classes that x finds improbable hardly counts.

    References
    ----------
    .. [1] Kullback and Leibler (1951). On information and sufficiency. Annals of Mathematical Statistics 22.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> round(get_measure("kl_divergence")([[0.0, 99.0]], [[0.0, 0.0]]), 6)
    0.693147
    """

    name = "kl_divergence"
    title = "Kullback-Leibler divergence of predictions, x against y"
    bounds = (0.0, math.inf)
    symmetric = False
    reference = "Kullback & Leibler 1951"

    def _of_rows(self, p: Tensor, q: Tensor) -> Tensor:
        return divergence(p, q)


@register
class Disagreement(_Functional):
    """Share of rows on which x and y give the largest logit to different classes.

    Raises
    ------
    InputError
        One class; different numbers of classes.

    Notes
    -----
        mean_i [argmax_c x_ic != argmax_c y_ic],   of equal logits the first

    x and y are logits (n, classes), the same classes in the same order. A dissimilarity in [0, 1]: 0 = the same
    answers. Scaling the logits changes no answer.

    How the number misleads: confidence does not count, so a tie that rounding breaks weighs as much as a firm change of
    mind. Two accurate models must agree on most rows: with accuracies of 90% they disagree on at most 20%, whatever
    they have in common.

    References
    ----------
    .. [1] Madani, Pennock and Flake (2004). Co-validation: using model disagreement on unlabeled data to validate
       classification algorithms. NeurIPS.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> get_measure("disagreement")([[0.0, 1.0], [2.0, 1.0]], [[0.0, 9.0], [1.0, 2.0]])
    0.5
    """

    name = "disagreement"
    title = "Disagreement of predictions"
    bounds = (0.0, 1.0)
    reference = "Madani et al. 2004"
    invariances_x = invariances_y = frozenset({"scale"})

    def _compare(self, p: Tensor, q: Tensor) -> float:
        return (p.argmax(1) != q.argmax(1)).double().mean().item()


@register
class AccuracyDifference(_Functional):
    """Absolute difference between the accuracies of x and y.

    Parameters
    ----------
    labels
        The right class of every row, n integers from 0 to classes - 1. Required.

    Raises
    ------
    InputError
        No labels, or labels that are not n integers from 0 to classes - 1.

    Notes
    -----
        | share of rows that x gets right - share of rows that y gets right |

    x and y are logits (n, classes), the same classes in the same order. A dissimilarity in [0, 1].

    How the number misleads: two models that err on entirely different rows have difference 0; see `disagreement`. With
    n rows, differences below about 1 / sqrt(n) are within sampling error.

    References
    ----------
    .. [1] Klabunde, Schumacher, Strohmaier and Lemmerich (2023). Similarity of neural network models: a survey of
       functional and representational measures. arXiv.

    Examples
    --------
    >>> from repsim_nb.measures import get_measure
    >>> get_measure("accuracy_difference", labels=[1, 1])([[0.0, 1.0], [2.0, 1.0]], [[0.0, 9.0], [1.0, 2.0]])
    0.5
    """

    name = "accuracy_difference"
    title = "Difference in accuracy"
    bounds = (0.0, 1.0)
    invariances_x = invariances_y = frozenset({"scale"})

    labels: Any = None

    def _prepare(self, x: Tensor, side: str) -> Tensor:
        n, classes = super()._prepare(x, side).shape
        labels = np.asarray([] if self.labels is None else self.labels)
        if labels.shape != (n,) or labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= classes:
            raise InputError(
                f"accuracy_difference needs labels=, one integer from 0 to {classes - 1} for each of the {n} rows of "
                f"{side}; got {'none' if self.labels is None else f'{labels.dtype} of shape {labels.shape}'}."
            )
        return x

    def _compare(self, p: Tensor, q: Tensor) -> float:
        labels = torch.as_tensor(np.asarray(self.labels, dtype=np.int64), device=p.device)
        right_p, right_q = ((logits.argmax(1) == labels).double().mean().item() for logits in (p, q))
        return abs(right_p - right_q)
