"""Groups of models.

Dissimilarity between classifiers that generalize and those that do not, minus that within the groups.
"""

import repsim_nb as rs

accuracy = rs.models.accuracies("tiny-bert-nli").iloc[:8]
groups = rs.groups.extremes(accuracy.drop(columns="test").mean(axis=1), size=4)
distances = rs.compare_models(list(accuracy.index), ["procrustes"], n_rows=100)
ax = rs.figures.effects(rs.groups.group_test(distances.procrustes, groups))
