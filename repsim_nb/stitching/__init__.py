"""Model stitching: maps between layers of two models, the stitched model and its penalty."""

from repsim_nb.stitching.asymmetry import asymmetry, penalties_by_kind, senders_by_run
from repsim_nb.stitching.contrasts import at_entries, best_entries, size_contrast
from repsim_nb.stitching.estimates import StitchEstimate, estimate_stitch
from repsim_nb.stitching.geometry import geometry_predicts
from repsim_nb.stitching.shipped_tables import shipped_table
from repsim_nb.stitching.stitched import Stitched, stitch
from repsim_nb.stitching.table import stitching_table
from repsim_nb.stitching.table_estimate import TableEstimate, estimate_table
from repsim_nb.stitching.transfer import transfer_direction, transfer_probe

__all__ = [
    "StitchEstimate",
    "Stitched",
    "TableEstimate",
    "asymmetry",
    "at_entries",
    "best_entries",
    "estimate_stitch",
    "estimate_table",
    "geometry_predicts",
    "penalties_by_kind",
    "senders_by_run",
    "shipped_table",
    "size_contrast",
    "stitch",
    "stitching_table",
    "transfer_direction",
    "transfer_probe",
]
