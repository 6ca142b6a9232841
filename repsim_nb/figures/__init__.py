"""Labelled results -> Axes."""

from repsim_nb.figures.lines import curves, penalties
from repsim_nb.figures.maps import agreement_map, gallery, heatmap, heatmap_grid
from repsim_nb.figures.points import model_map
from repsim_nb.figures.scales import scale_label

__all__ = ["agreement_map", "curves", "gallery", "heatmap", "heatmap_grid", "model_map", "penalties", "scale_label"]
