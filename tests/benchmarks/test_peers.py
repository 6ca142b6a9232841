"""The benchmark beside peers: its table is whole, and what it times gives the same values. No times are tested."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.benchmarks.peers import CONTENDERS, OURS, loop_over_features, loop_over_grams, ours

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "tests.benchmarks.bench_peers", "--quick", "--out", str(out)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    return out


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system tells no process its peak")
def test_bench_peers_has_a_line_for_every_contender_and_size_with_values_that_agree(written):
    assert (written / "benchmarks.csv").read_text(encoding="utf-8").startswith("# ")
    assert b"CPU time (s)" in (written / "benchmarks.svg").read_bytes()
    table = pd.read_csv(written / "benchmarks.csv", comment="#")
    cka = table[table.part == "cka"]
    sizes = cka.groupby(["rows", "width", "layers"]).contender.apply(list)
    assert len(sizes) == 4
    assert all(names == [c.name for c in CONTENDERS] for names in sizes)
    run = cka[cka.left_out.isna()]
    assert {OURS.name, "loop over X'Y", "loop over Gram matrices"} <= set(run.contender)
    assert run[["cpu_seconds", "wall_seconds", "ratio", "peak_mb"]].notna().all(axis=None)
    assert (run[run.contender != "repsim"].difference < 1e-5).all()  # its estimator is another one
    assert (cka[cka.left_out.notna()].left_out == "not installed").all()
    extraction = table[table.part == "extraction"].set_index("contender")
    assert {"bare forward passes", "loop over output_hidden_states"} <= set(extraction.index)
    assert (extraction.difference[["repsim-nb extract", "repsim-nb compare"]] < 1e-5).all()
    assert {"tokenizing, choosing rows", "embeddings", "hashing, once per model"} <= set(extraction.index)


@pytest.mark.parametrize("loop", [loop_over_features, loop_over_grams])
@pytest.mark.parametrize("shape", [(40, 6), (30, 50)])
def test_loop_computes_the_same_estimator_as_ours(loop, shape):
    rng = torch.Generator().manual_seed(0)
    xs = [1 + torch.randn(shape, generator=rng, dtype=torch.float64).cumsum(0) for _ in range(3)]
    assert loop(xs[:2], xs) == pytest.approx(ours(xs[:2], xs), abs=1e-10)
