"""Questions about depth, width and training, answered from similarity maps."""

from repsim_nb.depth.blocks import Blocks, block_score, find_blocks
from repsim_nb.depth.causes import (
    blocks_in_models,
    blocks_without,
    claims_about_blocks,
    massive_makes_blocks,
    shared_boundaries,
)
from repsim_nb.depth.checkpoints import maps_of, over_training
from repsim_nb.depth.convergence import convergence
from repsim_nb.depth.convergence_seeds import convergence_contrasts, convergence_over_seeds
from repsim_nb.depth.distance import correspondence, decay, equal_depth
from repsim_nb.depth.layer_agreement import Agreement, agreement_with_rank, layer_agreement
from repsim_nb.depth.power import block_power, power_text
from repsim_nb.depth.scaling import depth_claims
from repsim_nb.depth.shipped_courses import course_table, shipped_courses
from repsim_nb.depth.sizes import by_kind, by_size, model_distances, shipped_sizes

__all__ = [
    "Agreement",
    "Blocks",
    "agreement_with_rank",
    "block_power",
    "block_score",
    "blocks_in_models",
    "blocks_without",
    "by_kind",
    "by_size",
    "claims_about_blocks",
    "convergence",
    "convergence_contrasts",
    "convergence_over_seeds",
    "correspondence",
    "course_table",
    "decay",
    "depth_claims",
    "equal_depth",
    "find_blocks",
    "layer_agreement",
    "maps_of",
    "massive_makes_blocks",
    "model_distances",
    "over_training",
    "power_text",
    "shared_boundaries",
    "shipped_courses",
    "shipped_sizes",
]
