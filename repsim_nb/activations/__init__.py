"""Activations: from a model and a corpus to rows that are aligned across models, per layer."""

from repsim_nb.activations.extraction import extract, extract_aligned
from repsim_nb.activations.hooks import from_cache
from repsim_nb.activations.sampling import Sampling
from repsim_nb.activations.store import Store, StoreWarning
from repsim_nb.activations.values import Activations

__all__ = ["Activations", "Sampling", "Store", "StoreWarning", "extract", "extract_aligned", "from_cache"]
