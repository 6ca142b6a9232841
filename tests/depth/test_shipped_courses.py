"""Courses that ship as a table: those of a run whose checkpoints ship too are computed again."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import repsim_nb as rs
from repsim_nb.depth import convergence_contrasts, course_table, over_training, shipped_courses
from repsim_nb.errors import InputError
from repsim_nb.models import trajectory
from repsim_nb.system.shipped import data_dir
from repsim_nb.weights import spectra
from repsim_nb.zoo.recipes import RECIPES

NAME, SITE, RUN, BIASED, DEBIASED = (
    "convergence",
    "ov",
    "tiny-neox-w32-d4-s3",
    "biased, 128 rows",
    "debiased, 2,048 rows",
)


def computed(steps, n_rows=128, seed=0):
    run = trajectory(RUN).checkpoint.loc[[*steps, 1500]].to_dict()
    options = {"n_rows": n_rows, "rows_per_document": 1, "packing": rs.Packing("documents", 64), "seed": seed}
    biased = rs.get_measure("cka", debiased=False)
    return {(SITE, RUN, BIASED): over_training(run, corpus="python-docs", measure=biased, site=SITE, **options)}


@pytest.fixture(scope="module")
def found():
    return computed([0, 500])


@pytest.fixture(scope="module")
def courses(found):
    return shipped_courses(NAME, found)


def test_shipped_courses_are_those_computed_here(found, courses):
    """None if one value differed; otherwise nine runs of three widths, and nine at other rates."""
    assert set(courses) >= set(found)
    sizes = [of.attrs["size"] for of in courses.values()]
    others = ["width 32"] * 5 + ["width 64"] + ["width 128"] * 3
    assert sizes == [f"width {w}" for w in (32, 64, 128) for _ in range(3)] + others
    rates = {run: of.attrs["rate"] for (_, run, _), of in courses.items()}
    assert rates == {run: RECIPES[run].learning_rate for run in rates}
    assert len(set(rates.values())) == 5


def test_shipped_courses_are_none_for_another_comparison(found):
    (key, course), *_ = found.items()
    assert shipped_courses(NAME, computed([500], seed=1)) is None
    assert shipped_courses(NAME, {key: course.assign(similarity=course.similarity * 0.99)}) is None
    assert shipped_courses(NAME, {key: course.assign_coords(step=[0, 501, 1500])}) is None
    assert shipped_courses(NAME, {key: course.isel(layer=[0, 1])}) is None
    assert shipped_courses(NAME, {(SITE, "another", BIASED): course}) is None
    assert shipped_courses(NAME, {("resid_post", RUN, BIASED): course}) is None
    assert shipped_courses(NAME, {(SITE, RUN, "biased, 64 rows"): course}) is None
    with pytest.raises(FileNotFoundError):
        shipped_courses("convergence-none", found)


def test_shipped_courses_know_the_losses_and_ranks_of_the_checkpoints(courses):
    course, embedded = courses[SITE, RUN, BIASED], trajectory(RUN)
    np.testing.assert_allclose(course.loss.sel(step=embedded.index), embedded.loss, rtol=1e-6)
    parts = spectra(rs.load_model(embedded.checkpoint[500]), parts=[SITE], heads=False)
    expected = parts.set_index("layer").proportional_effective_rank
    np.testing.assert_allclose(course.weight_rank.sel(step=500), expected, rtol=1e-5)
    assert (abs(course.weight_rank - course.weight_rank_as_released) > 1e-3).any()


def test_shipped_courses_have_intervals_where_they_were_computed(found, courses):
    assert "low" not in courses[SITE, RUN, BIASED]
    both = shipped_courses(NAME, found | {(SITE, "another", DEBIASED): found[SITE, RUN, BIASED]})
    course = both[SITE, RUN, DEBIASED]
    assert ((course.low <= course.similarity) & (course.similarity <= course.high)).all()
    np.testing.assert_allclose(course.similarity.isel(step=-1), 1, atol=1e-6)


def test_shipped_courses_serve_as_those_of_over_training(courses):
    sizes = {run: of.attrs["size"] for (_, run, _), of in courses.items()}
    contrasts = convergence_contrasts({run: of for (_, run, _), of in courses.items()}, sizes)
    assert len(contrasts) == 3
    assert contrasts.seeds.tolist() == [12, 14, 10]
    assert np.isfinite(contrasts).all(axis=None)


def test_course_table_makes_what_shipped_courses_reads(found, courses):
    """A table made here of a run that ships has the values of the shipped table."""
    key = (SITE, RUN, BIASED)
    steps = found[key].step.values
    shipped = courses[key].sel(step=steps)
    columns = ["weight_rank", "weight_rank_as_released"]
    ranks = pd.concat({(RUN, SITE): shipped[columns].to_dataframe()}, names=["run", "site"])[columns]
    made = course_table(found, ranks, {RUN: trajectory(RUN).loss}, {RUN: "width 32"}, {RUN: 3e-3 * 2**0.5})
    table = xr.load_dataset(data_dir() / "tables" / f"{NAME}.nc", engine="h5netcdf")
    expected = table.sel(run=[RUN], site=[SITE], estimator=[BIASED], step=steps)[list(made.data_vars)]
    xr.testing.assert_allclose(made, expected.drop_vars("rate").assign_coords(rate=expected.rate), atol=1e-4)
    hashes = json.loads(table.attrs["provenance"])["weights_sha256"]
    own = json.loads(made.attrs["provenance"])["weights_sha256"]
    assert own.items() <= hashes.items()
    assert len(own) == len(steps)


def test_course_table_refuses_courses_that_do_not_fit_together(found):
    course = found[SITE, RUN, BIASED]
    with pytest.raises(InputError, match="other steps or layers"):
        course_table(found | {(SITE, "another", BIASED): course.isel(step=[0])}, pd.DataFrame(), {}, {}, {})
    with pytest.raises(InputError, match="every site, run and estimator"):
        course_table(found | {("mlp_out", "another", BIASED): course}, pd.DataFrame(), {}, {}, {})
    with pytest.raises(InputError, match=r"got \[\]"):
        course_table({}, pd.DataFrame(), {}, {}, {})


def test_the_table_names_weights_and_recipes():
    table = xr.load_dataset(data_dir() / "tables" / f"{NAME}.nc", engine="h5netcdf")
    hashes = json.loads(table.attrs["provenance"])["weights_sha256"]
    assert {name.split("@")[0] for name in hashes} == set(table.run.values) <= set(RECIPES)
    assert len(set(hashes.values())) == len(hashes) == table.run.size * table.step.size
    for checkpoint in trajectory(RUN).checkpoint:
        model = rs.load_model(checkpoint)
        assert hashes[model.name.split("/")[-1]] == model.provenance["weights_sha256"]
