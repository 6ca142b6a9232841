"""Model and corpus -> rows aligned across models, per layer."""

from repsim_nb.activations.extraction import Activations, extract, extract_aligned

__all__ = ["Activations", "extract", "extract_aligned"]
