"""Maps of several pairs on one scale.

A model with itself, and with its untrained twin.
"""

import repsim_nb as rs

names = ["tiny-neox-w64-d4", "tiny-neox-w64-d4@step0"]
activations = {name: rs.extract(name, n_rows=200) for name in names}
figure = rs.figures.heatmap_grid(rs.compare_all(activations))
