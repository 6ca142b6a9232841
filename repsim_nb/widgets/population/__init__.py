"""The explorer of many models: a map and a matrix of all of them, and the way down to layers and tokens."""

from repsim_nb.widgets.population.widget import Population

__all__ = ["Population"]
