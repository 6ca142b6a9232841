"""Whether groups of models differ, where, and whether anybody would see it without being told.

All of it works on dissimilarities between models, layer by layer, and knows nothing of models: an xr.DataArray with a
dimension "layer" and two more whose coordinates are the same models in the same order, larger where less alike. A
directed one is symmetrised by the mean of its two directions, and the diagonal is never used.
"""

from repsim_nb.groups.clustering import cluster, grouping
from repsim_nb.groups.dispersion import dispersion_test
from repsim_nb.groups.extremes import extremes
from repsim_nb.groups.means import means_by_group
from repsim_nb.groups.ranking import rank_correlation, rank_measures
from repsim_nb.groups.separation import first_layer, group_test

__all__ = [
    "cluster",
    "dispersion_test",
    "extremes",
    "first_layer",
    "group_test",
    "grouping",
    "means_by_group",
    "rank_correlation",
    "rank_measures",
]
