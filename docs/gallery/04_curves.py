"""Layer by layer, with interval and null.

The band is the 95% interval over documents; grey is what unrelated documents reach.
"""

import repsim_nb as rs

trained = rs.compare("tiny-neox-w32-d4", "tiny-neox-w64-d4", n_rows=200, null=40, interval=0.95)
ax = rs.figures.curves(trained)
