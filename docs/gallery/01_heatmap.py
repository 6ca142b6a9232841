"""A map of layers.

Debiased CKA between all layers of two models. Hatched cells are no more similar than unrelated documents.
"""

import repsim_nb as rs

result = rs.compare("tiny-neox-w32-d2", "tiny-neox-w64-d4", n_rows=400, null=40)
ax = rs.figures.heatmap(result)
