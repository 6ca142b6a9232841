"""Pickers and the explorer: state in, selection out. What they show is computed elsewhere in the package."""

from repsim_nb.widgets.corpora import CorpusPicker
from repsim_nb.widgets.explorer import Explorer
from repsim_nb.widgets.layers import LayerPicker
from repsim_nb.widgets.measures import MeasurePicker
from repsim_nb.widgets.models import ModelPicker

__all__ = ["CorpusPicker", "Explorer", "LayerPicker", "MeasurePicker", "ModelPicker"]
