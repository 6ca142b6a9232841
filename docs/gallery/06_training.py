"""Training.

How similar each layer is to itself at the end, over the checkpoints of one model.
"""

import repsim_nb as rs

course = rs.depth.over_training("tiny-neox-w64-d4", ["step50", "step500"], n_rows=100)
ax = rs.figures.over_training(course)
