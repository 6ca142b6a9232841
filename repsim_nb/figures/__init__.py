"""Figures: draw labelled results on matplotlib Axes. Nothing is shown or saved."""

from repsim_nb.errors import needs

needs("rs.figures", "matplotlib", "seaborn")

from repsim_nb.figures.atlas import atlas, similarity_against_function
from repsim_nb.figures.base_and_tuned import carrying_parts, layer_profile, most_moved, transferred
from repsim_nb.figures.heatmaps import agreement_map, gallery, heatmap, heatmap_grid, mark_blocks
from repsim_nb.figures.lines import by_groups, curves, effects, over_training, penalties
from repsim_nb.figures.points import model_map, projection, ranking
from repsim_nb.figures.ranked_lists import agreement_curves, model_matrix
from repsim_nb.figures.scales import scale_label

__all__ = [
    "agreement_curves",
    "agreement_map",
    "atlas",
    "by_groups",
    "carrying_parts",
    "curves",
    "effects",
    "gallery",
    "heatmap",
    "heatmap_grid",
    "layer_profile",
    "mark_blocks",
    "model_map",
    "model_matrix",
    "most_moved",
    "over_training",
    "penalties",
    "projection",
    "ranking",
    "scale_label",
    "similarity_against_function",
    "transferred",
]
