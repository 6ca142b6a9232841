"""Weights and gradients of a model: how many dimensions each of its matrices uses, whole and head by head."""

from repsim_nb.weights.singular_values import spectrum_of
from repsim_nb.weights.spectra import spectra

__all__ = ["spectra", "spectrum_of"]
