"""What a comparison takes is known beforehand, does not grow with the square of the rows, and keeps to its limit."""

import ctypes
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.measures import Measure, get_measure

from .samples import MEASURES, NAMES, N

PEAK = Path("/proc/self/clear_refs")
BLOCKWISE = ["rsm_norm_difference", "distance_correlation", "uniformity_difference", "mutual_knn"]
SQUARE = [("rsa", {}), ("rsa", {"inner": "euclidean", "outer": "pearson"}), ("rsa", {"outer": "kendall"})]


def resident(field):
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def peak(measure, x, y):
    """Bytes beyond those held before, and those expected."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        PEAK.write_text("5", encoding="ascii")
    except OSError:
        pytest.skip("this system does not tell a process its peak")
    before = resident("VmRSS")
    measure(x, y)
    return resident("VmHWM") - before, measure.memory(len(x), [x.shape[1]], [y.shape[1]])


@pytest.fixture(scope="module")
def sides():
    return np.random.default_rng(0).standard_normal((2, 3000, 64), dtype="float32")


@pytest.mark.parametrize("name", BLOCKWISE)
def test_measures_in_blocks_never_hold_all_distances(name, sides):
    taken, expected = peak(get_measure(name), *sides)
    assert max(taken, expected) < 8 * 3000**2  # one matrix of distances


@pytest.mark.parametrize(("name", "params"), SQUARE)
def test_memory_is_what_is_taken(name, params, sides):
    taken, expected = peak(get_measure(name, **params), *(x[:2500] for x in sides))
    assert taken == pytest.approx(expected, rel=0.25)  # the rest is what malloc had at hand


GROWING = ["cca", "hard_matching", "aligned_cosine", "kl_divergence", "rsa"]
GROWING += ["concentricity_difference", "magnitude_difference"]
GROWTH = """
import json, sys
from pathlib import Path
from statistics import median
import numpy as np
from repsim_nb.measures import get_measure

def resident(field):
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

def once(measure, x, y):
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = resident("VmRSS")
    measure(x, y)
    return resident("VmHWM") - before

def peak(measure, x, y):  # the median: a busy system drops pages of libraries and reads them again
    return median(once(measure, x, y) for _ in range(5))

x, y = np.random.default_rng(0).standard_normal((2, 3000, 192), dtype="float32")
for measure in map(get_measure, sys.argv[1:]):
    measure(x[:1000], y[:1000])
    few, more = peak(measure, x[:1000], y[:1000]), peak(measure, x, y)
    expected = measure.memory(3000, [192], [192]) - measure.memory(1000, [192], [192])
    print(json.dumps([measure.name, more - few, expected]))
"""


def test_memory_grows_as_what_is_taken_does():
    """In a process that gives back at once what is freed, so that only what is in use counts."""
    if not os.access(PEAK, os.W_OK):
        pytest.skip("this system does not tell a process its peak")
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    alone |= {"MALLOC_MMAP_THRESHOLD_": str(2**16), "OMP_NUM_THREADS": "1"}
    run = [sys.executable, "-W", "ignore", "-c", GROWTH, *GROWING]
    lines = subprocess.run(run, env=alone, check=True, capture_output=True, text=True).stdout.splitlines()
    found = {name: (taken, expected) for name, taken, expected in map(json.loads, lines)}
    assert list(found) == GROWING
    for name, (taken, expected) in found.items():
        assert taken == pytest.approx(expected, rel=0.4), name


@pytest.mark.parametrize("measure", MEASURES, ids=NAMES)
def test_memory_grows_with_rows_and_layers(measure: Measure):
    few, more = measure.memory(N, [8], [8]), measure.memory(4 * N, [8], [8])
    assert 0 <= few <= more
    assert measure.memory(N, [8, 8], [8, 8]) >= few
    assert measure.memory(N, [8]) <= measure.memory(N, [8], [8])


@pytest.mark.parametrize("name", ["rsa", "imd", "cca", "mutual_knn", "distance_correlation"])
def test_compare_refuses_arrays_beyond_the_limit_and_says_how_many_rows_fit(name):
    x = np.random.default_rng(1).normal(size=(2000, 8))
    measure = get_measure(name)
    limit = (measure.memory(2000, [8], [8]) + measure.memory(60, [8], [8])) // 2
    with pytest.raises(InputError, match=rf"{name} of 2,000 rows needs .*; the limit is .*Use at most") as refused:
        rs.compare(x, 2 * x[::-1], measure=name, memory_limit=limit)
    most = int(re.search(r"at most ([\d,]+) rows", str(refused.value))[1].replace(",", ""))
    assert measure.memory(most, [8], [8]) <= limit < measure.memory(most + 1, [8], [8])
    rs.compare(x[:60], 2 * x[:60], measure=name, memory_limit=limit)
    with pytest.raises(InputError, match="the limit is"):
        rs.compare_models({"x": x, "y": -x}, name, memory_limit=limit)
    with pytest.raises(InputError, match="the limit is"):
        rs.compare_all({"x": x, "y": -x}, name, memory_limit=limit)


def test_nulls_and_intervals_count_what_they_prepare_again():
    x, y = np.random.default_rng(2).normal(size=(2, 300, 4))
    limit = int(1.5 * get_measure("rsa").memory(300, [4], [4]))
    rs.compare(x, y, measure="rsa", memory_limit=limit)
    with pytest.raises(InputError, match="the limit is"):
        rs.compare(x, y, measure="rsa", memory_limit=limit, interval=True)


def test_compare_and_estimate_refuse_models_beyond_the_limit_alike():
    names, how = ("tiny-neox-w32-d2", "tiny-neox-w64-d2"), {"measure": "rsa", "memory_limit": 10**8}
    about = rs.estimate(*names, n_rows=4096, **how)
    assert about.work == get_measure("rsa").memory(4096, [32] * 3, [64] * 3)
    assert about.work > 6 * 4 * 4096 * 4095  # each of six layers keeps how alike all pairs of rows are
    assert "over the limit" in str(about)
    message = rf"set n_rows to at most {about.fitting:,}, or choose fewer layers"
    with pytest.raises(InputError, match=message):
        rs.compare(*names, n_rows=4096, **how)
    assert rs.estimate(*names, n_rows=about.fitting, **how).route == "memory"
    with pytest.raises(InputError, match=r"rsa need .*Choose n_rows of at most"):
        rs.compare_models(names, "rsa", n_rows=4096, memory_limit=10**8)
    with pytest.raises(InputError, match="store would have no effect"):
        rs.compare(names[0], n_rows=3000, memory_limit=15 * 10**5, store="./nowhere")
