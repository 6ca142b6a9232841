"""Test whether groups of models differ, at which layers, and whether clustering finds the groups without labels.

Most of this works on dissimilarities between models, layer by layer: an xr.DataArray with a dimension "layer" and
two more whose coordinates are the same models in the same order, larger where models are less similar. Relative depths
("depth") count as layers, and a table without either as a single one. A directed
dissimilarity is symmetrised by averaging both directions. The diagonal is never used.

`mantel`, `agreement`, `mean_agreement`, `family_test` and `outliers` take model x model tables without layers, of
either direction; the two on agreement take whole results of `compare_models` too.
"""

from repsim_nb.groups.arms import arm_difference
from repsim_nb.groups.clustering import cluster, grouping
from repsim_nb.groups.dispersion import dispersion_test
from repsim_nb.groups.extremes import extremes
from repsim_nb.groups.family import family_test
from repsim_nb.groups.joint import joint_test
from repsim_nb.groups.mantel import mantel
from repsim_nb.groups.means import means_by_group
from repsim_nb.groups.outliers import outliers
from repsim_nb.groups.ranking import rank_correlation, rank_measures
from repsim_nb.groups.row_draws import shipped_draws
from repsim_nb.groups.separation import first_layer, group_test
from repsim_nb.groups.table_agreement import agreement, mean_agreement, square

__all__ = [
    "agreement",
    "arm_difference",
    "cluster",
    "dispersion_test",
    "extremes",
    "family_test",
    "first_layer",
    "group_test",
    "grouping",
    "joint_test",
    "mantel",
    "mean_agreement",
    "means_by_group",
    "outliers",
    "rank_correlation",
    "rank_measures",
    "shipped_draws",
    "square",
]
