"""Every simulation runs; what they find is in docs/simulations.csv."""

from __future__ import annotations

import numpy as np
import pytest

from tests.simulations import Outcome, Simulation
from tests.simulations.__main__ import MODULES, run, simulations


@pytest.mark.parametrize(("module", "name"), [(m, n) for m in MODULES for n in simulations(m)])
def test_simulation_runs(module: str, name: str) -> None:
    line = run(module, simulations(module)[name], draws=1)
    assert line["share"] in (0, 1)
    assert line["kind"] in ("coverage", "level", "power")


def test_run_counts_hits_with_an_exact_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    third = Simulation("a third", "coverage", 1 / 3, 300, lambda rng: Outcome(bool(rng.random() < 1 / 3), 2.0))
    monkeypatch.setattr("tests.simulations.__main__.simulations", lambda module: {third.name: third})
    line = run("any", third, 300)
    assert line["low"] < 1 / 3 < line["high"]
    assert line["half_width"] == 2.0
    np.testing.assert_allclose(line["share"] * 300, round(line["share"] * 300))
