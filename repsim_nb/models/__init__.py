"""Models: the catalogue, and one interface for every kind of model."""

from repsim_nb.models.batch import Batch, Packing, Window
from repsim_nb.models.catalogue import accuracies, checkpoints, families, list_models, trajectory
from repsim_nb.models.loading import load_model
from repsim_nb.models.model import Model
from repsim_nb.models.survey_table import architectures

__all__ = [
    "Batch",
    "Model",
    "Packing",
    "Window",
    "accuracies",
    "architectures",
    "checkpoints",
    "families",
    "list_models",
    "load_model",
    "trajectory",
]
