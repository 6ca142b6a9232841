"""What can be picked, and one interface over every kind of model."""

from repsim_nb.models.batch import Batch, Packing, Window
from repsim_nb.models.catalogue import accuracies, list_models, load_model
from repsim_nb.models.model import Model

__all__ = ["Batch", "Model", "Packing", "Window", "accuracies", "list_models", "load_model"]
