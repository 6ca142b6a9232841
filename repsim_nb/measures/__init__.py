"""Measures of how similar two representations are: matrices in, numbers out. Knows nothing about models."""

from repsim_nb.measures import cca as cca
from repsim_nb.measures import cka as cka
from repsim_nb.measures import functional as functional
from repsim_nb.measures import matching as matching
from repsim_nb.measures import neighbours as neighbours
from repsim_nb.measures import procrustes as procrustes
from repsim_nb.measures import regression as regression
from repsim_nb.measures import rsa as rsa
from repsim_nb.measures import spread as spread
from repsim_nb.measures import topology as topology
from repsim_nb.measures.custom import measure
from repsim_nb.measures.registry import DegenerateWarning, Measure, Prepared, get_measure, list_measures
from repsim_nb.measures.single import anisotropy, effective_rank, intrinsic_dimension, participation_ratio

__all__ = [
    "DegenerateWarning",
    "Measure",
    "Prepared",
    "anisotropy",
    "effective_rank",
    "get_measure",
    "intrinsic_dimension",
    "list_measures",
    "measure",
    "participation_ratio",
]
