"""Run simulations by module: `python -m tests.simulations [MODULE ...] [--draws N] [--jobs N]`."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

import tests.simulations
from tests.simulations import Outcome, Simulation

TABLE = Path(__file__).parents[2] / "docs" / "simulations.csv"
FOUND = pkgutil.iter_modules(tests.simulations.__path__)
MODULES = sorted(m.name for m in FOUND if not m.name.startswith(("_", "test_")))


def simulations(module: str) -> dict[str, Simulation]:
    """The simulations of a module, by name."""
    return {s.name: s for s in importlib.import_module(f"tests.simulations.{module}").SIMULATIONS}


def _drawn(module: str, name: str, seeds: range) -> list[Outcome]:
    """The draws with these seeds; runs in a worker."""
    simulation = simulations(module)[name]
    place = list(simulations(module)).index(name)
    return [simulation.draw(np.random.default_rng([place, seed])) for seed in seeds]


def run(module: str, simulation: Simulation, draws: int, pool: ProcessPoolExecutor | None = None) -> dict[str, object]:
    """One line of the table: the share of draws that hit, with its exact 95% interval."""
    started = time.perf_counter()
    blocks = [range(i, min(i + 10, draws)) for i in range(0, draws, 10)]
    every = (pool.map if pool else map)(partial(_drawn, module, simulation.name), blocks)
    outcomes = [outcome for block in every for outcome in block]
    hits = sum(bool(o.hit) for o in outcomes)
    low, high = binomtest(hits, draws).proportion_ci(0.95, method="exact")
    return {
        "module": module,
        "simulation": simulation.name,
        "kind": simulation.kind,
        "nominal": simulation.nominal,
        "share": hits / draws,
        "low": low,
        "high": high,
        "draws": draws,
        "half_width": np.mean([o.half_width for o in outcomes]),
        "seconds": time.perf_counter() - started,
    }


def main() -> None:
    """Run the named modules (all if none) and merge their lines into the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help=f"any of {', '.join(MODULES)}; all if none is given")
    parser.add_argument("--draws", type=int, help="draws of every simulation, instead of its own number")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    given = parser.parse_args()
    if wrong := set(given.modules) - set(MODULES):
        parser.error(f"unknown: {', '.join(sorted(wrong))}; expected any of {', '.join(MODULES)}")
    with ProcessPoolExecutor(given.jobs) as pool:
        for module in given.modules or MODULES:
            lines = []
            for simulation in simulations(module).values():
                lines.append(run(module, simulation, given.draws or simulation.draws, pool))
                print({k: round(v, 4) if isinstance(v, float) else v for k, v in lines[-1].items()}, flush=True)
            before = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame(columns=list(lines[0]))
            table = pd.concat([f for f in (before[before.module != module], pd.DataFrame(lines)) if len(f)])
            table.sort_values("module", kind="stable").to_csv(TABLE, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
