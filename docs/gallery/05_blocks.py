"""Blocks of layers.

The best division into blocks; dashed where smooth decay with distance explains it.
"""

import repsim_nb as rs

activations = rs.extract("tiny-neox-w32-d8", n_rows=200)
found = rs.depth.find_blocks(activations, n_null=39, n_halves=4)
ax = rs.figures.mark_blocks(rs.figures.heatmap(rs.compare(activations)), found)
