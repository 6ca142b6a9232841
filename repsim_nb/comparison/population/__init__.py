"""A population of models: every pair under many measures, with one model in memory at a time."""

from repsim_nb.comparison.population.budget import PopulationEstimate, estimate_models
from repsim_nb.comparison.population.every_pair import CHEAP, compare_models
from repsim_nb.comparison.population.labels import of_measure

__all__ = ["CHEAP", "PopulationEstimate", "compare_models", "estimate_models", "of_measure"]
