"""Pickers, the explorer and the population. What they show is computed elsewhere in the package."""

from repsim_nb.errors import needs

needs("repsim_nb.widgets (rs.Explorer and the pickers)", "ipywidgets", "anywidget", "matplotlib", "seaborn")

from repsim_nb.widgets.checkpoint_slider import CheckpointSlider
from repsim_nb.widgets.corpus_picker import CorpusPicker
from repsim_nb.widgets.explorer import Explorer
from repsim_nb.widgets.layer_picker import LayerPicker
from repsim_nb.widgets.measure_picker import MeasurePicker
from repsim_nb.widgets.model_picker import ModelPicker
from repsim_nb.widgets.population import Population
from repsim_nb.widgets.saved_page import save_html

__all__ = [
    "CheckpointSlider",
    "CorpusPicker",
    "Explorer",
    "LayerPicker",
    "MeasurePicker",
    "ModelPicker",
    "Population",
    "save_html",
]
