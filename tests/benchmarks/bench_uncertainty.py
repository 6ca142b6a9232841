"""Coverage of the intervals, level of the tests, and their cost; run on demand.

python -m tests.benchmarks.bench_uncertainty [--repeats N]
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

from repsim_nb.comparison.layers import compare
from tests.support.simulated import Population, unrelated_grids

MEASURES: dict[str, dict[str, Any]] = {
    "cka": {"measure": "cka"},
    "cka, between documents": {"measure": "cka", "between_documents": True},
    "procrustes": {"measure": "procrustes"},
}


def coverage(repeats: int, documents: tuple[int, ...] = (64, 128, 400), shared: tuple[float, ...] = (0.6, 0.95)) -> Any:
    """How often 95% intervals hold the mean of their estimator at this size, and the value of the population."""
    rows = []
    for share in shared:
        population = Population(shared=share)
        for name, options in MEASURES.items():
            truth = getattr(population, options["measure"])
            for count in documents:
                rng = np.random.default_rng([count, 1])
                found = []
                for _ in range(repeats):
                    x, y, groups = population.sample(count, 8, rng)
                    r = compare({0: x}, {0: y}, groups=groups, interval=0.95, **options)
                    found.append([part.item() for part in (r, r.low, r.high)])
                value, low, high = np.array(found).T
                rows.append(
                    {
                        "measure": name,
                        "shared": share,
                        "documents": count,
                        "population": truth,
                        "mean": value.mean(),
                        "sd": value.std(),
                        "width": (high - low).mean(),
                        "covers mean": ((low <= value.mean()) & (value.mean() <= high)).mean(),
                        "covers population": ((low <= truth) & (truth <= high)).mean(),
                    }
                )
    return pd.DataFrame(rows)


def level(repeats: int, permutations: int = 99) -> Any:
    """How often unrelated models of clustered tokens are called alike at 0.05, by what is exchanged."""
    population = Population(shared=0.0)
    rows = []
    for name, options in MEASURES.items():
        for exchanged in ("documents", "rows"):
            rng = np.random.default_rng(2)
            p = []
            for _ in range(repeats):
                x, y, groups = population.sample(64, 8, rng)
                how = dict(options)
                if exchanged == "rows":
                    if how.pop("between_documents", False):
                        break
                    groups = None
                r = compare({0: x}, {0: y}, groups=groups, null=permutations, seed=int(rng.integers(2**31)), **how)
                p.append(r.p_value.item())
            if p:
                rows.append({"measure": name, "exchanged": exchanged, "false alarms": np.mean(np.array(p) <= 0.05)})
    return pd.DataFrame(rows)


def family_wise(repeats: int, layers: int = 6) -> Any:
    """How often any cell of an unrelated grid is called alike at 0.05."""
    kinds: dict[str, dict[str, Any]] = {
        "cka, max statistic": {"null": 99},
        "cka, moments": {"null": "moments"},
        "cka between documents, max statistic": {"null": 99, "between_documents": True},
        "cka between documents, moments": {"null": "moments", "between_documents": True},
    }
    rows = []
    for name, options in kinds.items():
        rng = np.random.default_rng(3)
        any_cell, cells = [], []
        for _ in range(repeats):
            a, b, groups = unrelated_grids(layers, 64, 8, 8, rng)
            r = compare(a, b, groups=groups, seed=int(rng.integers(2**31)), **options)
            any_cell.append(bool((r.p_value <= 0.05).any()))
            cells.append(float((r >= r.null_high).mean()))
        rows.append(
            {"test": name, "any cell by p_value": np.mean(any_cell), "a cell beyond its null_high": np.mean(cells)}
        )
    return pd.DataFrame(rows)


def cost(tokens: int, between: bool = False, repeats: int = 3) -> Any:
    """Process CPU seconds on a 6 x 6 grid, n = 4096, d = 64, best of some repeats."""
    rng = np.random.default_rng(0)
    a, b = ({i: torch.from_numpy(rng.normal(size=(4096, 64))).float() for i in range(6)} for _ in range(2))
    groups = np.arange(4096) // tokens

    def seconds(**options: Any) -> float:
        return min(
            _timed(lambda: compare(a, b, groups=groups, between_documents=between, **options)) for _ in range(repeats)
        )

    plain = seconds()
    jobs: dict[str, dict[str, Any]] = {
        "interval": {"interval": True},
        "null by moments": {"null": "moments"},
        "interval and null by moments": {"interval": True, "null": "moments"},
        "max statistic of 200 permutations": {"null": 200},
    }
    rows = [{"job": "plain grid", "seconds": plain}]
    rows += [{"job": job, "seconds": seconds(**options)} for job, options in jobs.items()]
    table = pd.DataFrame(rows)
    table["times plain"] = table.seconds / plain
    left, right = (torch.cat(list(side.values()), 1) for side in (a, b))
    table["times GEMM"] = table.seconds / min(_timed(lambda: left.T @ right) for _ in range(20))
    return table.assign(**{"tokens per document": tokens, "between documents": between})


def _timed(job: Callable[[], Any]) -> float:
    start = time.process_time()
    job()
    return time.process_time() - start


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=400)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    pd.set_option("display.width", 200, "display.max_columns", 20)
    for title, table in (
        ("cost, process CPU seconds", lambda: pd.concat([cost(8), cost(16), cost(8, True), cost(16, True)])),
        ("coverage of 95% intervals, 8 tokens per document", lambda: coverage(repeats)),
        ("level of the test at 0.05, 64 documents of 8 tokens", lambda: level(repeats)),
        ("level over a 6 x 6 grid, 64 documents of 8 tokens", lambda: family_wise(repeats)),
    ):
        print(f"\n{title}\n{table().round(4).to_string(index=False)}", flush=True)


if __name__ == "__main__":
    main()
