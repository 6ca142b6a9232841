"""A base model and its descendant: what changed, where, and whether it is noise, another seed or fine-tuning."""

from repsim_nb.descendants.altered import noisy, quantised
from repsim_nb.descendants.diff_cost import DiffEstimate, estimate_diff
from repsim_nb.descendants.difference import diff
from repsim_nb.descendants.verdict import KinshipVerdict, carriers, verdict

__all__ = ["DiffEstimate", "KinshipVerdict", "carriers", "diff", "estimate_diff", "noisy", "quantised", "verdict"]
