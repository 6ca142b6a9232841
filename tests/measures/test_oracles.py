"""Our values against those of public implementations (reference/values.json on reference/matrices.npz)."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from repsim_nb.measures import get_measure

from .oracle_table import DIFFERENT, ILL_DEFINED, TABLE, UNCOVERED

REFERENCE = Path(__file__).parent / "reference"
RECORDS = json.loads((REFERENCE / "values.json").read_text())["records"]
COVERED = [
    r
    for r in RECORDS
    if r["measure"] in TABLE
    and (r["measure"], r["peer"]) not in DIFFERENT
    and (r["measure"], r["case"]) not in ILL_DEFINED
]


@cache
def matrices(case: str) -> tuple[np.ndarray, np.ndarray]:
    """X and Y of a case; NAME[:60] is its first 60 rows."""
    name, _, cut = case.partition("[:")
    n = int(cut[:-1]) if cut else None
    with np.load(REFERENCE / "matrices.npz") as arrays:
        return arrays[f"{name}__X"][:n], arrays[f"{name}__Y"][:n]


@cache
def ours(name: str, case: str, dtype: str) -> tuple[float, float]:
    """What we get under the peer's name, and the size of the data where it matters."""
    how = TABLE[name]
    x, y = (how.inputs(m).astype(dtype) for m in matrices(case))
    if how.swapped:
        x, y = y, x
    size = max(np.linalg.norm(x), np.linalg.norm(y)) if how.sized else 1.0
    return how.transform(get_measure(how.name, **how.params)(x, y), x, y), size


@pytest.mark.filterwarnings("ignore::repsim_nb.measures.DegenerateWarning")  # [:60] has fewer rows than features
@pytest.mark.parametrize(("name", "case"), sorted({(r["measure"], r["case"]) for r in COVERED}))
def test_float64_agrees_with_every_implementation(name: str, case: str) -> None:
    how = TABLE[name]
    value, size = ours(name, case, "float64")
    # A difference of squares of size^2 is known to eps * size^2, and its root near 0 to about half of the digits.
    near_zero = 1e-6 * max(1, size / 10) if how.root else 1e-12 * size**2
    if how.rtol > 1e-8:
        near_zero = how.rtol * size**2
    for record in COVERED:
        if (record["measure"], record["case"]) == (name, case):
            assert value == pytest.approx(record["value"], rel=how.rtol, abs=near_zero), record


@pytest.mark.filterwarnings("ignore::repsim_nb.measures.DegenerateWarning")
@pytest.mark.parametrize(("name", "case"), sorted({(r["measure"], r["case"]) for r in COVERED}))
def test_float32_gives_the_same(name: str, case: str) -> None:
    how = TABLE[name]
    value, size = ours(name, case, "float64")
    single, _ = ours(name, case, "float32")
    assert single == pytest.approx(value, rel=5e-6, abs=(2e-3 if how.root else 5e-6) * (size if how.sized else 1))


@pytest.mark.slow
def test_rtd_is_the_mean_of_both_directions() -> None:
    pytest.importorskip("gudhi")
    case = "indep_200x32_48[:200]"
    both = [r["value"] for r in RECORDS if r["case"] == case and r["measure"].startswith("rtd_directed")]
    # The peer works in float32.
    assert get_measure("rtd", points=200)(*matrices(case)) == pytest.approx(sum(both) / 2, rel=1e-6)


def test_imd_orders_as_the_random_estimate_does_and_is_exact_for_a_rotation() -> None:
    peer = {r["case"]: r["value"] for r in RECORDS if r["measure"] == "imd"}
    value = {case: 1e6 * get_measure("imd")(*matrices(case)) for case in peer}  # the peer multiplies by 1e6
    assert value["exact_ortho_300x24[:200]"] < 1e-6 < peer["exact_ortho_300x24[:200]"]
    assert max(value, key=value.get) == max(peer, key=peer.get) == "indep_200x32_48[:200]"
    assert value["indep_200x32_48[:200]"] == pytest.approx(peer["indep_200x32_48[:200]"], abs=4)  # twice its noise


def test_cknna_differs_from_its_original_by_the_added_constant_only() -> None:
    for record in RECORDS:
        if record["measure"].startswith("cknna"):
            k = int(record["measure"].removeprefix("cknna_k"))
            value = get_measure("cknna", k=k)(*matrices(record["case"]))
            assert 0 < value - record["value"] < 1e-3 * value


def test_every_record_is_covered_or_has_a_reason() -> None:
    reasons = [name for names in UNCOVERED.values() for name in names.split(", ")]
    assert len(set(reasons)) == len(reasons)
    assert set(reasons) | set(TABLE) >= {r["measure"] for r in RECORDS}
    assert not set(reasons) & set(TABLE)
    assert len(RECORDS) == 646
    assert len(COVERED) == 448
    assert sum(TABLE[r["measure"]].rtol == 1e-8 for r in COVERED) == 424
