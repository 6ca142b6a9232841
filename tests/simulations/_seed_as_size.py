"""The third seed of a size named another size: how often does `by_size` see a size that is not there?

`python -m tests.simulations._seed_as_size` takes six sizes of three seeds each, names one seed of each in turn another
size, and writes docs/seed_as_size.csv: 18 differences that are 0 by construction, each with its interval, and the
same with 0.05 taken from the similarity to the renamed seed.
"""

from __future__ import annotations

from itertools import product

import pandas as pd

import repsim_nb as rs
from repsim_nb.comparison import replicates
from tests.simulations.__main__ import TABLE

HEADS = "tiny-neox-w32-d4-h{}-s{}"
FAMILIES = [["tiny-neox-w32-d4", *(f"tiny-neox-w32-d4-s{s}" for s in (1, 2))]] + [
    [HEADS.format(heads, s) for s in range(3)] for heads in ("16r4", "32r8", "8r2", "16r8", "8r8")
]
PLANTED = 0.05


def main() -> None:
    """Compute the maps once, then every renaming."""
    texts = rs.load_corpus("python-docs")
    acts = {n: rs.extract(n, texts, n_rows=2048, rows_per_document=1) for family in FAMILIES for n in family}
    maps = rs.compare_all(acts)
    left_out = replicates(acts, groups=acts[FAMILIES[0][0]].rows["document"].to_numpy())
    lines = []
    for (number, family), renamed in product(enumerate(FAMILIES), range(3)):
        sizes = {name: (place, 4) for place, members in enumerate(FAMILIES) for name in members}
        sizes[family[renamed]] = (99, 4)
        for planted in (0.0, PLANTED):
            moved = {pair: m - planted * (family[renamed] in pair) for pair, m in maps.items()}
            again = {pair: m - planted * (family[renamed] in pair) for pair, m in left_out.items()}
            line = rs.depth.by_size(moved, sizes, again).loc[(str((number, 4)), str((99, 4)))]
            lines.append({"renamed": family[renamed], "planted": -planted, **line[["difference", "low", "high"]]})
    table = pd.DataFrame(lines)
    table.to_csv(TABLE.with_name("seed_as_size.csv"), index=False, float_format="%.4f")
    table["excludes 0"] = (table.low > 0) | (table.high < 0)
    table["half-width"] = (table.high - table.low) / 2
    print(table.groupby("planted")[["excludes 0", "half-width"]].agg(["sum", "mean"]))


if __name__ == "__main__":
    main()
