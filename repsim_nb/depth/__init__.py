"""Questions about depth, width and training, answered from similarity maps."""

from repsim_nb.depth.blocks import Blocks, block_score, find_blocks, p_text
from repsim_nb.depth.causes import blocks_without, claims_about_blocks, shared_boundaries
from repsim_nb.depth.checkpoints import over_training
from repsim_nb.depth.distance import correspondence, decay, equal_depth
from repsim_nb.depth.scaling import depth_claims
from repsim_nb.depth.sizes import by_kind, by_size, model_distances

__all__ = [
    "Blocks",
    "block_score",
    "blocks_without",
    "by_kind",
    "by_size",
    "claims_about_blocks",
    "correspondence",
    "decay",
    "depth_claims",
    "equal_depth",
    "find_blocks",
    "model_distances",
    "over_training",
    "p_text",
    "shared_boundaries",
]
