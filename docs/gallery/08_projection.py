"""Behind a cell.

Both layers on shared axes. A line joins the two points of a token.
"""

import repsim_nb as rs

a, b = rs.extract_aligned(["tiny-neox-w32-d2", "tiny-neox-w64-d2"], n_rows=200)
ax = rs.figures.projection(rs.closeup.shared_axes(a[2], b[2]), labels=("width 32", "width 64"))
