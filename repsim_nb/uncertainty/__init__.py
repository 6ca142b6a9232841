"""Intervals and nulls over documents, since tokens of one document are not independent but documents are."""

from repsim_nb.uncertainty.alignment import LinearCKA
from repsim_nb.uncertainty.closed_form import NullMoments, closed_form, permutation_moments
from repsim_nb.uncertainty.documents import Documents, WeakNullWarning
from repsim_nb.uncertainty.grids import Grids, Recomputed, Spread
from repsim_nb.uncertainty.jackknife import Interval, jackknife, jackknife_grid
from repsim_nb.uncertainty.null import LEVEL, Null, calibrated, max_statistic
from repsim_nb.uncertainty.options import Uncertainty

__all__ = [
    "LEVEL",
    "Documents",
    "Grids",
    "Interval",
    "LinearCKA",
    "Null",
    "NullMoments",
    "Recomputed",
    "Spread",
    "Uncertainty",
    "WeakNullWarning",
    "calibrated",
    "closed_form",
    "jackknife",
    "jackknife_grid",
    "max_statistic",
    "permutation_moments",
]
