"""One pair of models under several measures.

Brighter is more similar in every map; each has its own scale.
"""

import repsim_nb as rs

a, b = rs.extract_aligned(["tiny-neox-w32-d4", "tiny-neox-w64-d4"], n_rows=200)
measures = ["cka", "procrustes", "svcca", "mutual_knn"]
figure = rs.figures.gallery({measure: rs.compare(a, b, measure=measure) for measure in measures})
