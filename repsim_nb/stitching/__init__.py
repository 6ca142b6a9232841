"""Model stitching: maps between layers of two models, the stitched model and its penalty."""

from repsim_nb.stitching.asymmetry import asymmetry, penalties_by_kind, senders_by_run
from repsim_nb.stitching.estimates import StitchEstimate, estimate_stitch
from repsim_nb.stitching.geometry import geometry_predicts
from repsim_nb.stitching.shipped_tables import shipped_table
from repsim_nb.stitching.stitched import Stitched, stitch
from repsim_nb.stitching.table import stitching_table

__all__ = [
    "StitchEstimate",
    "Stitched",
    "asymmetry",
    "estimate_stitch",
    "geometry_predicts",
    "penalties_by_kind",
    "senders_by_run",
    "shipped_table",
    "stitch",
    "stitching_table",
]
