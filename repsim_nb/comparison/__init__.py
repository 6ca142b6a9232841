"""Comparisons of layers: two models, a population of models, or a family of models on packed sequences."""

from repsim_nb.comparison.ceiling import noise_ceiling
from repsim_nb.comparison.cost import Estimate, estimate
from repsim_nb.comparison.layers import compare, compare_all
from repsim_nb.comparison.population import compare_models, estimate_models, of_measure
from repsim_nb.comparison.replicates import replicates
from repsim_nb.comparison.result import calibrated_map
from repsim_nb.comparison.sequences import compare_family
from repsim_nb.comparison.streaming import stream

__all__ = [
    "Estimate",
    "calibrated_map",
    "compare",
    "compare_all",
    "compare_family",
    "compare_models",
    "estimate",
    "estimate_models",
    "noise_ceiling",
    "of_measure",
    "replicates",
    "stream",
]
