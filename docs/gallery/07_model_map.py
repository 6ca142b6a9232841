"""A map of models.

Six language models as points whose distances are the Procrustes distances of their last layers.
"""

import repsim_nb as rs

names = [f"tiny-{kind}-3l-s{seed}" for kind in ("gelu", "solu") for seed in range(3)]
distances = rs.compare_models(names, ["procrustes"], n_rows=200, layers="last")
ax = rs.figures.model_map(distances.procrustes, groups={name: name[5:9] for name in names})
